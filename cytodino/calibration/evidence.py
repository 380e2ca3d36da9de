"""What confidence was worth on labelled cells: raw, calibrated, and by the threshold."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.calibration.reliability import (
    Reliability,
    RiskCoverage,
    measure_reliability,
    measure_risk,
)
from cytodino.calibration.shift import Shift, detect_shift
from cytodino.calibration.temperature import negative_log_likelihood, soften
from cytodino.calibration.threshold import Bound, Guarantee, Outcomes, Refusal
from cytodino.metrics import CRITICAL_AS_SAFE
from cytodino.statistics import clopper_pearson

if TYPE_CHECKING:
    from cytodino.calibration.file import ModelCalibration

__all__ = ["AcceptedCells", "ConfidenceEvidence", "ConfidenceQuality", "weigh_confidence"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConfidenceQuality(_Record):
    """How good probabilities are at one temperature."""

    temperature: float
    nll: float
    """Mean negative log-likelihood, nats."""
    reliability: Reliability
    errors: RiskCoverage
    """Wrong cells among the most confident ones."""
    critical_errors: RiskCoverage
    """Critical cells called safe among the most confident ones."""


class AcceptedCells(_Record):
    """What the threshold did on these cells."""

    promised: Guarantee
    accepted: int
    coverage: float
    """Share of all cells, 0 to 1."""
    bounds: tuple[Bound, ...]
    """Errors seen among accepted cells, and what is possible at the level of the targets."""
    accuracy: float | None
    """Of accepted cells, 0 to 1; None where none is."""
    accuracy_low: float
    accuracy_high: float
    """Exact 95 % interval (Clopper-Pearson)."""
    held: bool
    """Whether no rate among these accepted cells is above its limit."""


class ConfidenceEvidence(_Record):
    """The section `confidence` of `evaluation.json`."""

    raw: ConfidenceQuality
    calibrated: ConfidenceQuality | None
    """None where the model is not calibrated for what ran."""
    accepted: AcceptedCells | None
    """None where no threshold is promised."""
    refusal: Refusal | None
    """Why none is promised, where the model is calibrated."""
    shift: Shift | None
    """Whether the cells look like the calibration cells; None without a calibration."""


def weigh_confidence(
    logits: NDArray[np.float32], labels: NDArray[np.int64], model: "ModelCalibration | None"
) -> ConfidenceEvidence:
    """Hold confidences against labels.

    Parameters
    ----------
    logits : float32, (n, 21), n >= 1
    labels : int64, (n,), class indices
    model : ModelCalibration, optional
        Of the variant and engine that gave the logits.
    """
    raw = _measure(logits, labels, 1.0)
    if model is None:
        return ConfidenceEvidence(raw=raw, calibrated=None, accepted=None, refusal=None, shift=None)
    fitted = model.calibration
    outcomes = Outcomes.of(logits, labels, fitted.temperature)
    return ConfidenceEvidence(
        raw=raw,
        calibrated=_measure(logits, labels, fitted.temperature),
        accepted=_accept(outcomes, fitted.guarantee) if fitted.guarantee else None,
        refusal=fitted.review if isinstance(fitted.review, Refusal) else None,
        shift=detect_shift(outcomes.scores, fitted.sample),
    )


def _measure(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float
) -> ConfidenceQuality:
    confidences, called = soften(logits, temperature).max(axis=1), logits.argmax(axis=1)
    wrong = called != labels
    return ConfidenceQuality(
        temperature=temperature,
        nll=negative_log_likelihood(logits, labels, temperature),
        reliability=measure_reliability(confidences, ~wrong),
        errors=measure_risk(confidences, wrong),
        critical_errors=measure_risk(confidences, CRITICAL_AS_SAFE[labels, called]),
    )


def _accept(outcomes: Outcomes, promised: Guarantee) -> AcceptedCells:
    accepted, bounds = outcomes.bounds(promised.threshold, promised.targets)
    wrong = int(outcomes.errors["errors"][outcomes.scores >= promised.threshold].sum())
    low, high = clopper_pearson(accepted - wrong, accepted)
    return AcceptedCells(
        promised=promised,
        accepted=accepted,
        coverage=accepted / len(outcomes.scores),
        bounds=bounds,
        accuracy=(accepted - wrong) / accepted if accepted else None,
        accuracy_low=low,
        accuracy_high=high,
        held=all(bound.count <= bound.limit * accepted for bound in bounds),
    )
