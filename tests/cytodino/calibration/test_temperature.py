import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from cytodino.calibration.temperature import (
    HIGHEST,
    LOWEST,
    fit_temperature,
    negative_log_likelihood,
    soften,
)
from cytodino.errors import InputError
from cytodino.statistics import softmax


def draw(n: int, *, boldness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits `boldness` times too large for labels drawn from their own softmax."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (n, 21))
    labels = np.array([generator.choice(21, p=p) for p in softmax(logits)])
    return (boldness * logits).astype(np.float32), labels


@pytest.mark.parametrize("boldness", [0.4, 1.0, 3.0])
def test_the_temperature_is_scipys_and_finds_what_the_logits_were_multiplied_by(boldness):
    logits, labels = draw(3000, boldness=boldness)

    def nll(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / math.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    best = minimize_scalar(nll, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded",
                           options={"xatol": 1e-10})  # fmt: skip
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(math.exp(best.x), rel=1e-5)
    assert negative_log_likelihood(logits, labels, found) == pytest.approx(best.fun, rel=1e-12)
    assert found == pytest.approx(boldness, rel=0.06)


def test_the_likelihood_of_two_cells_by_hand():
    logits = np.array([[0.0, 0.0], [math.log(3), 0.0]])
    # -log(1/2) and -log(1/4), and at temperature 1/2, where 3 becomes 9, -log(1/10).
    labels = np.array([0, 1])
    assert negative_log_likelihood(logits, labels) == pytest.approx(math.log(2) * 1.5)
    cold = negative_log_likelihood(logits, labels, 0.5)
    assert cold == pytest.approx((math.log(2) + math.log(10)) / 2)


def test_a_label_that_seems_impossible_has_a_finite_likelihood():
    logits = np.array([[0.0, 5000.0]])
    assert negative_log_likelihood(logits, np.array([0])) == 5000.0


def test_a_model_without_an_error_ends_at_the_lower_bound_and_one_that_guesses_at_the_upper():
    logits, _ = draw(50, boldness=1.0)
    assert fit_temperature(logits, logits.argmax(axis=1)) == LOWEST
    assert fit_temperature(logits, logits.argmin(axis=1)) == HIGHEST


def test_the_same_cells_give_the_same_number_to_the_bit():
    logits, labels = draw(200, boldness=2.0)
    assert fit_temperature(logits, labels) == fit_temperature(logits.copy(), labels.copy())


def test_temperature_1_is_softmax_to_the_bit_and_none_changes_a_decision():
    logits, _ = draw(200, boldness=2.0)
    assert np.array_equal(soften(logits, 1.0), softmax(logits))
    assert np.array_equal(soften(logits, 7.3).argmax(axis=1), logits.argmax(axis=1))


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 21)), np.zeros(0, dtype=int)),
        (np.zeros((2, 21)), np.zeros(1, dtype=int)),
        (np.full((1, 21), np.nan), np.zeros(1, dtype=int)),
    ],
)
def test_what_tells_no_temperature_is_refused(logits, labels):
    with pytest.raises(InputError):
        fit_temperature(logits, labels)
