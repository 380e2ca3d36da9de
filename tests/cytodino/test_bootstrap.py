import numpy as np
import pytest

from cytodino.bootstrap import bootstrap_scores
from cytodino.errors import InputError
from cytodino.metrics import confusion, score_confusion
from cytodino.statistics import clopper_pearson
from cytodino.taxonomy import CODES, index_of


def draw(n: int, seed: int, accuracy: float = 0.8) -> np.ndarray:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, n)
    wrong = generator.random(n) > accuracy
    return confusion(labels, np.where(wrong, (labels + 1) % 5, labels))


def test_the_interval_of_accuracy_is_that_of_a_proportion():
    matrix = draw(400, 0)
    found = bootstrap_scores(matrix)
    hits = int(np.trace(matrix))
    assert found.accuracy == pytest.approx(clopper_pearson(hits, 400), abs=0.006)


def test_the_same_cells_give_the_same_interval_and_more_cells_a_narrower_one():
    matrix = draw(300, 1)
    found = bootstrap_scores(matrix)
    assert found == bootstrap_scores(matrix.copy())
    wide, narrow = found.weighted_f1, bootstrap_scores(16 * matrix).weighted_f1
    assert (wide[1] - wide[0]) / (narrow[1] - narrow[0]) == pytest.approx(4, rel=0.15)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    truth = score_confusion(draw(100_000, 99)).weighted_f1
    held = 0
    for seed in range(50):
        low, high = bootstrap_scores(draw(300, seed)).weighted_f1
        held += low <= truth <= high
    assert held >= 43


def test_every_score_lies_in_its_interval_and_classes_without_cells_have_none():
    matrix = draw(500, 2)
    scores, found = score_confusion(matrix), bootstrap_scores(matrix)
    for name in ("accuracy", "weighted_f1", "macro_f1", "macro_f1_supported", "weighted_precision"):
        low, high = getattr(found, name)
        assert low < getattr(scores, name) < high
    for one, spread in zip(scores.per_class, found.per_class, strict=True):
        assert one.code == spread.code
        if one.support:
            assert spread.f1[0] < one.f1 < spread.f1[1]
            assert spread.recall[0] < one.recall < spread.recall[1]
            assert spread.precision[0] < one.precision < spread.precision[1]
        else:
            assert (spread.precision, spread.recall, spread.f1) == (None, None, None)


def test_critical_errors_have_an_interval_where_a_critical_cell_is():
    labels = np.full(200, index_of("BLA"))
    called = np.where(np.arange(200) < 30, index_of("LYT"), labels)
    low, high = bootstrap_scores(confusion(labels, called)).critical_error_rate
    assert low < 0.15 < high
    safe = np.full(50, index_of("LYT"))
    assert bootstrap_scores(confusion(safe, safe)).critical_error_rate is None


def test_a_class_of_one_cell_is_judged_on_the_draws_that_have_it():
    labels = np.array([0] * 99 + [1])
    spread = bootstrap_scores(confusion(labels, labels)).per_class[1]
    assert spread.code == CODES[1]
    assert spread.recall == (1.0, 1.0)


def test_no_cell_is_refused():
    with pytest.raises(InputError):
        bootstrap_scores(np.zeros((21, 21), dtype=np.int64))
