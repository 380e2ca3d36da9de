import math
from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from cytodino.calibration.threshold import (
    FLOOR,
    Guarantee,
    Outcomes,
    Refusal,
    Targets,
    find_threshold,
    score_cells,
)
from cytodino.statistics import softmax
from cytodino.taxonomy import index_of

TARGETS = Targets(accuracy=0.9, level=0.9)
Risk = Callable[[np.ndarray], np.ndarray]


def draw(generator: np.random.Generator, n: int, risk: Risk, critical: float = 0.0) -> Outcomes:
    """Cells of uniform score from 0.3 to 1, wrong with a probability that the score decides."""
    scores = generator.uniform(0.3, 1.0, n).astype(np.float32)
    wrong = generator.random(n) < risk(scores)
    return Outcomes(
        scores, {"errors": wrong, "critical errors": wrong & (generator.random(n) < critical)}
    )


def true_risk(threshold: float, risk: Risk) -> float:
    """Of the accepted cells of the whole population."""
    return float(risk(np.linspace(max(threshold, 0.3), 1.0, 20_001)).mean())


def rising(scores: np.ndarray) -> np.ndarray:
    return 0.4 * (1 - scores)


def jagged(scores: np.ndarray) -> np.ndarray:
    """Confident cells are no safer than others: risk does not fall with the threshold."""
    return np.where(scores > 0.85, 0.14, np.where(scores > 0.5, 0.02, 0.3))


def naive_threshold(cells: Outcomes, targets: Targets) -> float | None:
    """The lowest threshold whose accepted cells were accurate enough."""
    order = np.argsort(-cells.scores)
    wrong = np.cumsum(cells.errors["errors"][order]) / np.arange(1, len(order) + 1)
    fine = np.flatnonzero(wrong <= targets.limits["errors"])
    return float(cells.scores[order[fine[-1]]]) if len(fine) else None


@pytest.mark.parametrize("risk", [rising, jagged])
def test_the_guarantee_is_broken_in_at_most_delta_of_the_draws_and_a_naive_one_more_often(risk):
    draws, delta = 400, 1 - TARGETS.level
    generator = np.random.default_rng(7)
    broken = naive = given = 0
    for _ in range(draws):
        exploring, judging = draw(generator, 150, risk), draw(generator, 350, risk)
        found = find_threshold(exploring, judging, TARGETS)
        if isinstance(found, Guarantee):
            given += 1
            broken += true_risk(found.threshold, risk) > 0.1
        lowest = naive_threshold(judging, TARGETS)
        naive += lowest is not None and true_risk(lowest, risk) > 0.1
    noise = 3 * math.sqrt(delta * (1 - delta) / draws)
    assert broken / draws <= delta + noise
    assert naive / draws > delta + noise
    assert naive > 2 * broken
    assert given > draws / 2  # it is no guarantee that keeps silent


def test_where_every_cell_is_as_risky_as_the_limit_it_speaks_in_delta_of_the_draws():
    def constant(scores: np.ndarray) -> np.ndarray:
        return np.full(scores.shape, 0.1 + 1e-9)

    generator = np.random.default_rng(1)
    draws = 400
    given = sum(
        isinstance(
            find_threshold(draw(generator, 150, constant), draw(generator, 350, constant), TARGETS),
            Guarantee,
        )
        for _ in range(draws)
    )
    assert 0.03 < given / draws <= 0.1 + 3 * math.sqrt(0.09 / draws)


def test_critical_errors_are_bounded_by_a_limit_of_their_own():
    generator = np.random.default_rng(2)
    targets = Targets(accuracy=None, critical_rate=0.02, level=0.9)
    broken = given = 0
    for _ in range(300):
        parts = [draw(generator, n, rising, critical=0.2) for n in (400, 800)]
        found = find_threshold(parts[0], parts[1], targets)
        if isinstance(found, Guarantee):
            given += 1
            broken += 0.2 * true_risk(found.threshold, rising) > 0.02
    assert broken / 300 <= 0.1 + 3 * math.sqrt(0.09 / 300)
    assert given > 60


def test_both_limits_have_to_hold():
    generator = np.random.default_rng(3)
    exploring, judging = (draw(generator, n, rising, critical=0.2) for n in (1000, 2000))
    accuracy = find_threshold(exploring, judging, Targets(accuracy=0.9))
    critical = find_threshold(exploring, judging, Targets(accuracy=None, critical_rate=0.02))
    both = find_threshold(exploring, judging, Targets(accuracy=0.9, critical_rate=0.02))
    assert isinstance(accuracy, Guarantee)
    assert isinstance(critical, Guarantee)
    assert isinstance(both, Guarantee)
    assert both.threshold >= max(accuracy.threshold, critical.threshold) - 0.02
    assert [bound.kind for bound in both.bounds] == ["errors", "critical errors"]
    assert all(bound.upper <= bound.limit for bound in both.bounds)


def test_a_threshold_is_the_last_of_an_unbroken_sequence():
    """Below the threshold the next step fails: more cells could not be promised."""
    generator = np.random.default_rng(4)
    exploring, judging = draw(generator, 1000, rising), draw(generator, 2000, rising)
    found = find_threshold(exploring, judging, TARGETS)
    assert isinstance(found, Guarantee)
    assert judging.p_value(found.threshold, TARGETS) <= 0.1
    lower = np.sort(exploring.scores[exploring.scores < found.threshold])[::-1]
    assert judging.p_value(round(float(lower[15]), 6), TARGETS) > 0.1
    assert found.accepted == int((judging.scores >= found.threshold).sum())
    assert found.coverage == found.accepted / 2000
    assert "at least 90 % of the accepted cells are right, at 90 % confidence" in found.sentence()
    assert "prevalence" in found.sentence()


def test_judging_cells_do_not_choose_where_the_sequence_begins():
    """A lucky stretch of the judging cells must not be found by looking for it."""
    generator = np.random.default_rng(5)
    exploring = draw(generator, 500, lambda scores: np.full(scores.shape, 0.5))
    judging = draw(generator, 500, lambda scores: np.where(scores > 0.6, 0.5, 0.0))
    assert isinstance(find_threshold(exploring, judging, TARGETS), Refusal)


def test_a_model_that_is_never_wrong_is_accepted_whole():
    generator = np.random.default_rng(6)
    parts = [draw(generator, n, lambda scores: np.zeros(scores.shape)) for n in (100, 200)]
    found = find_threshold(parts[0], parts[1], Targets())
    assert isinstance(found, Guarantee)
    assert (found.threshold, found.accepted) == (FLOOR, 200)


def test_too_few_cells_are_refused_with_the_number_that_is_needed():
    generator = np.random.default_rng(6)
    parts = [draw(generator, n, lambda scores: np.zeros(scores.shape)) for n in (30, 58)]
    found = find_threshold(parts[0], parts[1], Targets())
    assert isinstance(found, Refusal)
    assert "even without an error 59 accepted cells are needed" in found.reason
    enough = [draw(generator, n, lambda scores: np.zeros(scores.shape)) for n in (30, 59)]
    assert isinstance(find_threshold(enough[0], enough[1], Targets()), Guarantee)


def test_a_weak_model_is_refused_with_what_was_seen():
    generator = np.random.default_rng(8)
    parts = [draw(generator, n, lambda s: np.full(s.shape, 0.4)) for n in (200, 400)]
    found = find_threshold(parts[0], parts[1], Targets())
    assert isinstance(found, Refusal)
    assert "not good enough" in found.reason
    assert "where 5 % are allowed" in found.reason


def test_cells_that_are_all_called_critical_promise_nothing():
    scores = np.full(200, -0.1, dtype=np.float32)
    none = {"errors": np.zeros(200, bool), "critical errors": np.zeros(200, bool)}
    found = find_threshold(Outcomes(scores, none), Outcomes(scores, none), Targets())
    assert isinstance(found, Refusal)
    assert "0 of 200" in found.reason


def test_a_cell_called_critical_scores_below_every_threshold():
    logits = np.zeros((2, 21), dtype=np.float32)
    logits[0, index_of("BLA")] = 9
    logits[1, index_of("LYT")] = 9
    sure = softmax(logits).max(axis=1).astype(np.float32)
    assert score_cells(logits, 1.0) == pytest.approx([sure[0] - 1, sure[1]])
    assert score_cells(logits, 1.0)[0] < 0 < FLOOR < 1 / 21
    labels = np.array([index_of("LYT"), index_of("BLA")])
    found = Outcomes.of(logits, labels, 1.0)
    assert found.errors["errors"].tolist() == [True, True]
    assert found.errors["critical errors"].tolist() == [False, True]


@pytest.mark.parametrize(
    "wrong", [{"accuracy": None}, {"accuracy": 1.0}, {"critical_rate": 0}, {"level": 1.0}]
)
def test_targets_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        Targets(**wrong)
