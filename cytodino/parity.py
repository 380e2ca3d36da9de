"""Hold a candidate's logits against the reference's: a report, and a verdict.

Decisions are compared, not only numbers. A flip is judged by the reference's *margin*, its top-1
minus its top-2 probability: on a weakly trained model a fifth of the cells lie under a margin of
0.1 and an honest bf16 flips some of them, while a layer scaled wrongly by 3 % hides behind an
agreement limit loose enough to allow that.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.errors import ParityError
from cytodino.limits import LIMITS, Limits
from cytodino.metrics import (
    confusion,
    macro_f1_from_confusion,
    supported_classes,
    weighted_f1_from_confusion,
)
from cytodino.statistics import softmax, wilson_lower
from cytodino.taxonomy import CODES, CRITICAL, N_CLASSES, SAFE

__all__ = [
    "LIMITS",
    "Flip",
    "LabelledChange",
    "Limits",
    "MarginBin",
    "ParityReport",
    "Verdict",
    "compare",
    "margin_of",
]

Verdict = Literal["passed", "failed", "unproven"]

MARGIN_EDGES = (0.0, 0.001, 0.02, 0.05, 0.10, 0.25, 0.50, 1.0)
"""Edges of the margin's bins in the report; the inner ones are the limits of the variants."""

BOOTSTRAP_ROUNDS = 1_000
BOOTSTRAP_SEED = 0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Flip(_Frozen):
    """One cell whose top-1 class differs."""

    row: int
    """0-based row of the compared cells."""
    reference: str
    candidate: str
    margin: float
    """The reference's top-1 minus top-2 probability, 0 to 1."""
    critical: bool
    """The reference calls the cell critical, the candidate safe."""


class MarginBin(_Frozen):
    """Cells and flips of one range of the reference's margin, lower end included."""

    low: float
    high: float
    cells: int
    flips: int


class LabelledChange(_Frozen):
    """Candidate minus reference, on cells with labels."""

    n: int
    weighted_f1: float
    macro_f1: float | None
    """Over classes of `metrics.MINIMUM_SUPPORT` cells or more; None if there is none."""
    macro_f1_low: float | None
    """Lower end of the paired bootstrap's 95 % interval."""
    macro_f1_high: float | None


class ParityReport(_Frozen):
    """What a comparison found, and whether it is within the limits."""

    verdict: Verdict
    failures: tuple[str, ...]
    """Each limit that was broken, as a sentence; empty unless the verdict is failed."""
    n: int
    logit_max: float
    logit_mean: float
    logit_relative_max: float
    """As a share of the reference logits' standard deviation."""
    logit_relative_mean: float
    probability_max: float
    agreement: float
    """Share of cells with the same top-1 class, 0 to 1."""
    agreement_low: float
    """Wilson 95 % lower bound of the agreement."""
    flips: tuple[Flip, ...]
    """Every flip, clearest margin first."""
    margins: tuple[MarginBin, ...]
    labelled: LabelledChange | None
    limits: Limits

    @property
    def critical_flips(self) -> tuple[Flip, ...]:
        """Flips from a critical class of the reference to a safe one of the candidate."""
        return tuple(flip for flip in self.flips if flip.critical)

    def flip_table(self) -> NDArray[np.int64]:
        """Count flips, int64 (21, 21): rows the reference's class, columns the candidate's."""
        table = np.zeros((N_CLASSES, N_CLASSES), dtype=np.int64)
        for flip in self.flips:
            table[CODES.index(flip.reference), CODES.index(flip.candidate)] += 1
        return table


def compare(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    limits: Limits,
    labels: NDArray[np.int64] | None = None,
) -> ParityReport:
    """Hold a candidate's logits against the reference's.

    Parameters
    ----------
    reference : float32, (n, 21), PyTorch, FP32
    candidate : float32, (n, 21)
    limits : Limits
        What the candidate may differ by.
    labels : int64, (n,), optional
        Class indices, 0 to 20; -1 where a cell has no label.

    Raises
    ------
    ParityError
        If the shapes differ, there is no cell, or either holds a NaN or an infinity.
    """
    _require_comparable(reference, candidate)
    reference_p, candidate_p = softmax(reference), softmax(candidate)
    flips = _find_flips(reference_p, candidate_p)
    margins = margin_of(reference_p)
    change = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    spread = float(reference.astype(np.float64).std()) or np.finfo(np.float64).tiny
    n = len(reference)
    report = ParityReport(
        verdict="unproven",
        failures=(),
        n=n,
        logit_max=float(change.max()),
        logit_mean=float(change.mean()),
        logit_relative_max=float(change.max() / spread),
        logit_relative_mean=float(change.mean() / spread),
        probability_max=float(np.abs(candidate_p - reference_p).max()),
        agreement=(n - len(flips)) / n,
        agreement_low=wilson_lower(n - len(flips), n),
        flips=flips,
        margins=_bin_margins(margins, flips),
        labelled=_compare_labelled(reference, candidate, labels),
        limits=limits,
    )
    return _judge(report)


def margin_of(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Top-1 minus top-2 probability, float64 (n,), of probabilities (n, 21)."""
    top_two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(top_two[:, 1] - top_two[:, 0])


def _require_comparable(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
    if reference.shape != candidate.shape or reference.ndim != 2 or len(reference) == 0:
        raise ParityError(
            f"the reference's logits are {reference.shape}, the candidate's {candidate.shape}",
            mend=f"compare the same cells, at least one, with {N_CLASSES} logits each",
        )
    for name, logits in (("reference", reference), ("candidate", candidate)):
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(broken):
            raise ParityError(
                f"the {name}'s logits are not finite in {len(broken)} of {len(logits)} cells, "
                f"first in row {broken[0]}"
            )


def _find_flips(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> tuple[Flip, ...]:
    before, after = reference.argmax(axis=1), candidate.argmax(axis=1)
    margins = margin_of(reference)
    flips = [
        Flip(
            row=int(row),
            reference=CODES[before[row]],
            candidate=CODES[after[row]],
            margin=float(margins[row]),
            critical=CODES[before[row]] in CRITICAL and CODES[after[row]] in SAFE,
        )
        for row in np.flatnonzero(before != after)
    ]
    return tuple(sorted(flips, key=lambda flip: (-flip.margin, flip.row)))


def _bin_margins(margins: NDArray[np.float64], flips: tuple[Flip, ...]) -> tuple[MarginBin, ...]:
    cells, _ = np.histogram(margins, MARGIN_EDGES)
    flipped, _ = np.histogram([flip.margin for flip in flips], MARGIN_EDGES)
    return tuple(
        MarginBin(low=low, high=high, cells=int(n), flips=int(k))
        for low, high, n, k in zip(MARGIN_EDGES[:-1], MARGIN_EDGES[1:], cells, flipped, strict=True)
    )


def _compare_labelled(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
) -> LabelledChange | None:
    if labels is None or not (labels >= 0).any():
        return None
    known = labels >= 0
    truth = labels[known]
    before, after = reference[known].argmax(axis=1), candidate[known].argmax(axis=1)
    supported = supported_classes(confusion(truth, before))  # (21,)
    change = low = high = None
    if supported.any():
        change = float(_macro_f1_change(truth, before, after, supported))
        low, high = _bootstrap_interval(truth, before, after, supported)
    return LabelledChange(
        n=len(truth),
        weighted_f1=float(
            weighted_f1_from_confusion(confusion(truth, after))
            - weighted_f1_from_confusion(confusion(truth, before))
        ),
        macro_f1=change,
        macro_f1_low=low,
        macro_f1_high=high,
    )


def _macro_f1_change(
    truth: NDArray[np.int64],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    supported: NDArray[np.bool_],
) -> float:
    return float(
        macro_f1_from_confusion(confusion(truth, after), classes=supported)
        - macro_f1_from_confusion(confusion(truth, before), classes=supported)
    )


def _bootstrap_interval(
    truth: NDArray[np.int64],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    supported: NDArray[np.bool_],
) -> tuple[float, float]:
    """95 % percentile interval of the change of macro F1, cells resampled in pairs."""
    if np.array_equal(before, after):
        return 0.0, 0.0
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    changes = [
        _macro_f1_change(truth[drawn], before[drawn], after[drawn], supported)
        for drawn in generator.integers(0, len(truth), size=(BOOTSTRAP_ROUNDS, len(truth)))
    ]
    low, high = np.quantile(changes, (0.025, 0.975))
    return float(low), float(high)


def _judge(report: ParityReport) -> ParityReport:
    failures = tuple(_broken_limits(report))
    verdict: Verdict = "passed" if report.n >= report.limits.min_cells else "unproven"
    if failures:
        verdict = "failed"
    return report.model_copy(update={"verdict": verdict, "failures": failures})


def _broken_limits(report: ParityReport) -> list[str]:
    limits = report.limits
    clear = [flip for flip in report.flips if flip.margin >= limits.margin]
    critical = [flip for flip in clear if flip.critical]
    broken = []
    if clear:
        broken.append(
            f"{len(clear)} flips where the margin is at least {limits.margin:g}; "
            f"the clearest is {clear[0].reference} to {clear[0].candidate} "
            f"at {clear[0].margin:.3f}"
        )
    if len(critical) > limits.critical_flips:
        pairs = ", ".join(f"{flip.reference} to {flip.candidate}" for flip in critical)
        broken.append(f"{len(critical)} critical flips of a clear margin: {pairs}")
    ceilings = (
        ("a probability", report.probability_max, limits.probability),
        ("a logit", report.logit_max, limits.logit_absolute),
        ("a logit, in the logits' spread,", report.logit_relative_max, limits.logit_relative),
    )
    for name, value, ceiling in ceilings:
        if ceiling is not None and not value <= ceiling:
            broken.append(f"{name} moved by {value:.3g}, beyond {ceiling:g}")
    enough = report.n >= limits.min_cells  # of 24 cells, one honest flip is already 4 %
    if limits.agreement is not None and enough and report.agreement < limits.agreement:
        broken.append(f"top-1 agreement is {report.agreement:.2%}, below {limits.agreement:.0%}")
    labelled = report.labelled
    if limits.judge_macro_f1 and labelled and (labelled.macro_f1_high or 0.0) < 0:
        broken.append(
            f"macro F1 changed by {labelled.macro_f1:.4f}, 95 % interval "
            f"{labelled.macro_f1_low:.4f} to {labelled.macro_f1_high:.4f}"
        )
    return broken
