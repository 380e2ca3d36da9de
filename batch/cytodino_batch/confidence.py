"""What stands in the column `confidence`, which cells are accepted, and what is promised of them.

A bundle that carries a calibration for the variant and engine that ran gives calibrated
confidences and, where its calibration cells could support one, a threshold with a guarantee. The
guarantee is for cells like those. Cells that do not look like them are still classified, but
nothing is promised.
"""

from typing import Literal

from cytodino.calibration.file import ModelCalibration
from cytodino.calibration.shift import Shift, detect_shift
from cytodino.calibration.threshold import RULE, Guarantee, Refusal
from cytodino_batch.classification import Classification
from cytodino_batch.section import Section

DEFAULT_BELOW = 0.5
"""Confidence below which a cell is for review where neither the user nor the bundle says another:
no majority for any one class. Nothing is promised of it."""

NOT_CALIBRATED = (
    "not calibrated: the bundle carries no calibration for this variant and engine; confidences "
    "are the model's own softmax, and nothing is promised of accepted cells"
)


class ConfidenceRule(Section):
    """Part of the provenance: what confidences were made and judged with."""

    column: Literal["raw", "calibrated"] = "raw"
    """What stands in the column `confidence`; probabilities go by the same."""
    temperature: float = 1.0
    """Logits were divided by it."""
    threshold_from: Literal["bundle", "user", "default"] = "default"
    """Who says below which confidence a cell is for review; only the bundle's is guaranteed."""

    def sentence(self) -> str:
        """Say what a confidence is."""
        if self.column == "raw":
            return "raw: softmax of the logits"
        return f"calibrated: softmax of the logits divided by {self.temperature:.6g}"


class ConfidenceSection(Section):
    """The section `confidence` of `summary.json`."""

    column: Literal["raw", "calibrated"]
    meaning: str
    """What a confidence is, in words."""
    rule: str
    """Which cells are accepted."""
    threshold: float
    threshold_from: Literal["bundle", "user", "default"]
    accepted: int
    """Classified cells that need no review by this rule."""
    calibrated_on: str | None
    """Variant, engine, provider and machine of the calibration; None without one."""
    guarantee: Guarantee | None
    """What the bundle promises of accepted cells, where its threshold is used."""
    shift: Shift | None
    """These cells' scores against the calibration cells'; None without a calibration or a cell."""
    supported: bool
    """Whether there is a guarantee, and nothing seen here speaks against it."""
    statement: str
    """All of this in one sentence."""


def choose_rule(
    model: ModelCalibration | None, asked: float | None
) -> tuple[ConfidenceRule, float]:
    """Choose what confidences are made with, and the threshold.

    Parameters
    ----------
    model : ModelCalibration, optional
        The bundle's, for the variant and engine that run.
    asked : float, optional
        The user's own threshold, which goes before the bundle's.
    """
    column: Literal["raw", "calibrated"] = "raw" if model is None else "calibrated"
    temperature = 1.0 if model is None else model.calibration.temperature
    guarantee = None if model is None else model.calibration.guarantee
    source: Literal["bundle", "user", "default"] = "default"
    below = DEFAULT_BELOW
    if asked is not None:
        source, below = "user", asked
    elif guarantee is not None:
        source, below = "bundle", guarantee.threshold
    rule = ConfidenceRule(column=column, temperature=temperature, threshold_from=source)
    return rule, below


def judge_confidence(
    result: Classification, rule: ConfidenceRule, model: ModelCalibration | None
) -> ConfidenceSection:
    """Say what was accepted, what is promised of it, and whether these cells look as they should.

    Parameters
    ----------
    result : Classification
        Made with the rule's temperature.
    rule : ConfidenceRule
    model : ModelCalibration, optional
        The one that the rule was chosen by.
    """
    shift = None
    if model is not None and len(result.rows):
        shift = detect_shift(result.scores, model.calibration.sample)
    guarantee = None
    if model is not None and rule.threshold_from == "bundle":
        guarantee = model.calibration.guarantee
    accepted = len(result.rows) - int(result.review.sum())
    return ConfidenceSection(
        column=rule.column,
        meaning=rule.sentence(),
        rule=RULE,
        threshold=result.review_below,
        threshold_from=rule.threshold_from,
        accepted=accepted,
        calibrated_on=None if model is None else _name(model),
        guarantee=guarantee,
        shift=shift,
        supported=guarantee is not None and shift is not None and not shift.shifted,
        statement=_state(guarantee, shift, model, rule, accepted / max(1, len(result.rows))),
    )


def _state(
    guarantee: Guarantee | None,
    shift: Shift | None,
    model: ModelCalibration | None,
    rule: ConfidenceRule,
    share: float,
) -> str:
    if model is None:
        return NOT_CALIBRATED
    if guarantee is None:
        told = _why_nothing(model, rule)
        if shift is not None and shift.shifted:
            told += f"; confidences mislead here: {_compare(shift)}"
        return told
    if shift is None:
        return f"{guarantee.sentence()}; no cell was classified"
    if shift.shifted:
        return (
            f"the guarantee is not supported here: {_compare(shift)}; accepted are {share:.1%}, of "
            f"the calibration cells it was {guarantee.coverage:.1%}. Review these cells as without "
            f"a guarantee. It would be: {guarantee.sentence()}"
        )
    return f"{guarantee.sentence()}; nothing seen here speaks against it: {_compare(shift)}"


def _why_nothing(model: ModelCalibration, rule: ConfidenceRule) -> str:
    if rule.threshold_from == "user":
        return "nothing is promised of accepted cells: the threshold is the user's own"
    review = model.calibration.review
    assert isinstance(review, Refusal)  # or the threshold would be the bundle's
    return f"nothing is promised of accepted cells: {review.reason}"


def _compare(shift: Shift) -> str:
    verdict = "are not like" if shift.shifted else "cannot be told from"
    return (
        f"the scores of these {shift.cells} cells {verdict} those of the "
        f"{shift.calibration_cells} calibration cells (Kolmogorov-Smirnov distance "
        f"{shift.distance:.3f}, chance explains {shift.allowed:.3f})"
    )


def _name(model: ModelCalibration) -> str:
    return f"{model.variant} on {model.engine}, {model.provider}, {model.machine}"
