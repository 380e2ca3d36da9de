import numpy as np
import pytest

from cytodino.calibration import Targets, calibrate
from cytodino.calibration.evidence import weigh_confidence
from cytodino.calibration.file import ModelCalibration

from .test_record import draw


def model(n: int, **targets: float) -> ModelCalibration:
    return ModelCalibration(
        variant="fp32",
        engine="pytorch",
        provider="cpu",
        machine="m",
        calibration=calibrate(*draw(n), Targets(**targets)),
    )


def test_a_promise_is_held_against_other_cells():
    fitted = model(3000)
    logits, labels, _ = draw(2000, seed=5)
    found = weigh_confidence(logits, labels, fitted)
    assert found.calibrated is not None
    assert found.accepted is not None
    assert found.calibrated.reliability.ece < found.raw.reliability.ece / 2
    assert found.calibrated.nll < found.raw.nll
    assert found.calibrated.errors.points[-1].risk == pytest.approx(
        (logits.argmax(axis=1) != labels).mean()
    )
    assert found.accepted.held
    assert found.accepted.accuracy_low < found.accepted.accuracy < found.accepted.accuracy_high
    assert found.accepted.coverage == found.accepted.accepted / 2000
    assert found.shift is not None
    assert not found.shift.shifted


def test_a_promise_that_was_broken_is_told():
    fitted = model(3000)
    logits, labels, _ = draw(2000, seed=5)
    wrong = np.where(np.arange(2000) % 5 == 0, (labels + 1) % 21, labels)
    found = weigh_confidence(logits, wrong, fitted)
    assert found.accepted is not None
    assert not found.accepted.held
    assert found.accepted.bounds[0].upper > 0.05


def test_what_was_refused_and_what_was_never_calibrated_are_told_apart():
    logits, labels, _ = draw(300, seed=5)
    refused = weigh_confidence(logits, labels, model(100))
    assert refused.refusal is not None
    assert refused.accepted is None
    raw = weigh_confidence(logits, labels, None)
    assert (raw.calibrated, raw.accepted, raw.refusal, raw.shift) == (None, None, None, None)
