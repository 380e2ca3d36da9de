import numpy as np
import pytest

from cytodino.calibration import Targets
from cytodino.statistics import softmax
from cytodino_bench.resampling import LabelledLogits, judge_split, naive_threshold, resample


def draw(n: int, seed: int, *, lies: float = 0.0) -> LabelledLogits:
    """Logits twice too bold; of the cells, a share `lies` has a label drawn from nowhere."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 7, (n, 21))
    labels = (softmax(logits).cumsum(axis=1) > generator.random((n, 1))).argmax(axis=1)
    labels = np.where(generator.random(n) < lies, generator.integers(0, 21, n), labels)
    ids = [f"{seed}-{at}" for at in range(n)]
    return LabelledLogits((2 * logits).astype(np.float32), labels.astype(np.int64), ids)


TARGETS = Targets(accuracy=0.9, level=0.9)


def test_a_promise_is_hardly_ever_broken_and_a_naive_threshold_often():
    found = resample(draw(3000, 0), 800, TARGETS, rounds=30)
    assert (found.calibration_cells, found.test_cells, found.rounds) == (800, 2200, 30)
    assert found.given > 15
    assert found.broken_clearly <= found.broken <= 0.25 * found.given
    assert found.naive_broken > 2 * found.broken
    assert found.naive_broken_clearly <= found.naive_broken
    assert 0 < found.coverage < 1
    assert found.false_alarms <= 1
    assert found.ece_calibrated < found.ece_raw / 2
    assert found.nll_calibrated < found.nll_raw


def test_other_cells_break_the_promise_and_are_noticed_where_scores_tell():
    calibration = draw(2000, 1)
    kept = judge_split(calibration, draw(2000, 2), TARGETS)
    assert kept.held
    assert not kept.shifted
    lying = judge_split(calibration, draw(2000, 3, lies=0.5), TARGETS)
    assert lying.held is False
    assert not lying.shifted  # wrong labels alone are not to be seen
    strange = draw(2000, 4)
    dull = LabelledLogits(strange.logits / 5, strange.labels, strange.ids)
    assert judge_split(calibration, dull, TARGETS).shifted


def test_what_cannot_be_promised_is_counted_apart():
    found = resample(draw(200, 5), 100, Targets(accuracy=0.999), rounds=3)
    assert (found.given, found.broken, found.coverage) == (0, 0, None)
    assert judge_split(draw(100, 5), draw(100, 6), Targets(accuracy=0.999)).reason is not None


def test_the_naive_threshold_is_the_lowest_that_looks_fine():
    logits = np.zeros((4, 21), dtype=np.float32)
    logits[np.arange(4), 10] = [5, 4, 3, 2]  # all called LYT
    cells = LabelledLogits(logits, np.array([10, 10, 10, 12]), list("abcd"))
    third = softmax(logits[2]).max()
    assert naive_threshold(cells, 1.0, TARGETS) == pytest.approx(third)
    everything = naive_threshold(cells, 1.0, Targets(accuracy=0.7))
    assert everything == pytest.approx(softmax(logits[3]).max())
    wrong = LabelledLogits(logits, np.full(4, 12), list("abcd"))
    assert naive_threshold(wrong, 1.0, TARGETS) is None
