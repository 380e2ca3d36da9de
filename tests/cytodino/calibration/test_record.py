import numpy as np
import pytest

from cytodino.calibration import Calibration, Guarantee, Refusal, Targets, calibrate
from cytodino.calibration.record import divide_cells
from cytodino.calibration.threshold import Outcomes
from cytodino.errors import InputError
from cytodino.statistics import softmax


def draw(n: int, *, seed: int = 0, spread: float = 7.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Logits twice too bold for labels drawn from their softmax, and ids."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, spread, (n, 21))
    labels = (softmax(logits).cumsum(axis=1) > generator.random((n, 1))).argmax(axis=1)
    return (2 * logits).astype(np.float32), labels, [f"cell-{at}" for at in range(n)]


def test_calibration_mends_the_probabilities_and_promises_something():
    found = calibrate(*draw(3000))
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert (found.exploring, found.judging) == (1000, 2000)
    assert found.after.ece < found.before.ece / 2
    assert found.after.nll < found.before.nll
    assert isinstance(found.review, Guarantee)
    assert 0.2 < found.review.coverage < 0.6
    assert found.guarantee == found.review


def test_the_promise_is_kept_on_cells_to_come():
    logits, labels, _ = draw(40_000, seed=99)
    kept = []
    for seed in range(60):
        found = calibrate(*draw(900, seed=seed), Targets(accuracy=0.9, level=0.8))
        if found.guarantee is not None:
            cells = Outcomes.of(logits, labels, found.temperature)
            accepted = cells.scores >= found.guarantee.threshold
            kept.append(cells.errors["errors"][accepted].mean() <= 0.1)
    assert len(kept) > 30
    assert np.mean(kept) >= 0.8 - 3 * (0.16 / len(kept)) ** 0.5


def test_the_order_of_the_cells_means_nothing():
    logits, labels, ids = draw(300)
    order = np.random.default_rng(1).permutation(300)
    assert calibrate(logits, labels, ids) == calibrate(
        logits[order], labels[order], [ids[at] for at in order]
    )


def test_no_cell_both_explores_and_judges():
    first, second = divide_cells([f"{at}" for at in range(100)], seed=3)
    assert sorted([*first, *second]) == list(range(100))
    assert len(first) == 33
    assert first.tolist() != divide_cells([f"{at}" for at in range(100)], seed=4)[0].tolist()


def test_cells_without_a_label_are_left_out():
    logits, labels, ids = draw(300)
    more = np.concatenate([logits, logits[:50]])
    unknown = np.concatenate([labels, np.full(50, -1)])
    assert calibrate(more, unknown, [*ids, *(f"extra-{at}" for at in range(50))]) == calibrate(
        logits, labels, ids
    )


def test_few_cells_give_a_temperature_but_no_promise_and_fewer_nothing():
    found = calibrate(*draw(80))
    assert isinstance(found.review, Refusal)
    assert found.guarantee is None
    with pytest.raises(InputError, match="59 labelled calibration cells are too few"):
        calibrate(*draw(59))
    with pytest.raises(InputError):
        calibrate(*draw(100)[:2], ["one"])


@pytest.mark.parametrize("n", [80, 3000])
def test_a_calibration_survives_its_text(n):
    found = calibrate(*draw(n))
    assert Calibration.model_validate_json(found.model_dump_json()) == found


def test_cells_of_whole_patients_weaken_the_promise_in_words():
    plain, grouped = (calibrate(*draw(3000), grouped=known) for known in (False, True))
    assert plain.guarantee is not None
    assert grouped.guarantee is not None
    assert "the true confidence is lower than stated" in grouped.guarantee.sentence()
    assert "lower than stated" not in plain.guarantee.sentence()
    assert plain.guarantee.threshold == grouped.guarantee.threshold
