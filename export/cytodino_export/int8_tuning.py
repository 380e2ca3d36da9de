"""Where INT8 is beyond its limits, the most sensitive groups of nodes go back to float."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytodino.limits import Limits
from cytodino.parity import ParityReport, compare
from cytodino_export.graph_parts import float_logits
from cytodino_export.graph_regions import find_regions
from cytodino_export.int8 import ReturnedGroup
from cytodino_export.qdq import restore_float

if TYPE_CHECKING:
    import onnx

__all__ = ["RANK_CELLS", "Tuning", "rank_groups", "relative_logit_error", "tune_int8"]

RANK_CELLS = 8
"""Cells for the ranking, which runs the model once for each group."""

MOST_MISSES = 3
"""After so many groups in a row that gained nothing, the rest will not help."""

LEAST_GAIN = 0.01
"""Share of the error that a group has to take away to be worth its time."""

Crops = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Tuning:
    """Outcome of `tune_int8`."""

    model: "onnx.ModelProto"
    returned: tuple[ReturnedGroup, ...]
    error: float
    """Relative logit error at the end."""
    report: ParityReport
    """Of the tuning cells at the end; few cells leave it unproven, failures count."""


def relative_logit_error(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> float:
    """RMS change of the logits, in standard deviations of the reference's logits.

    ||candidate - reference|| / ||reference - mean(reference)||, over all cells and classes.
    """
    truth = reference.astype(np.float64)
    spread = np.linalg.norm(truth - truth.mean())
    return float(np.linalg.norm(candidate - truth) / max(spread, np.finfo(np.float64).tiny))


def tune_int8(
    source: "onnx.ModelProto",
    quantised: "onnx.ModelProto",
    crops: Crops,
    limits: Limits,
    *,
    labels: NDArray[np.int64] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Tuning:
    """Return groups of nodes to float, the most sensitive first, until the cells are within limits.

    It ends, too, where returning more gains nothing. The cells must be others than those that
    calibrated and those that will judge.

    Parameters
    ----------
    source : onnx.ModelProto
        FP32: its logits on the CPU are the reference.
    quantised : onnx.ModelProto
        Made from it by `to_int8`.
    crops : sequence of uint8, (h, w, 3), RGB
        The tuning cells.
    limits : Limits
    labels : int64, (n,), optional
    say : callable
        Told what is being done.
    """
    reference = float_logits(source, crops)
    found = float_logits(quantised, crops)
    state = _State(reference, labels, limits)
    report, error = state.judge(found)
    if not report.failures:
        return Tuning(quantised, (), error, report)
    groups = find_regions(source).groups
    say(f"beyond the limits: {report.failures[0]}; ranking {len(groups)} groups")
    ranked = rank_groups(source, quantised, crops[:RANK_CELLS], reference[:RANK_CELLS])
    returned: list[ReturnedGroup] = []
    misses = 0
    for name in ranked:
        if not report.failures or misses == MOST_MISSES:
            break
        attempt = restore_float(quantised, source, groups[name])
        new_report, new_error = state.judge(float_logits(attempt, crops))
        if new_error > error * (1 - LEAST_GAIN):
            misses += 1
            continue
        say(f"{name} back to float: relative logit error {error:.4f} to {new_error:.4f}")
        returned.append(
            ReturnedGroup(
                name=name,
                nodes=groups[name],
                error_before=error,
                error_after=new_error,
                probability_before=report.probability_max,
                probability_after=new_report.probability_max,
            )
        )
        quantised, report, error, misses = attempt, new_report, new_error, 0
    return Tuning(quantised, tuple(returned), error, report)


def rank_groups(
    source: "onnx.ModelProto",
    quantised: "onnx.ModelProto",
    crops: Crops,
    reference: NDArray[np.float32],
) -> list[str]:
    """Order the groups by the error that each makes alone, all others in float; largest first."""
    groups = find_regions(source).groups
    alone = {}
    for name in groups:
        others = [node for other, nodes in groups.items() if other != name for node in nodes]
        only_one = restore_float(quantised, source, others)
        alone[name] = relative_logit_error(reference, float_logits(only_one, crops))
    return sorted(alone, key=lambda name: -alone[name])


@dataclass(frozen=True)
class _State:
    reference: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    limits: Limits

    def judge(self, logits: NDArray[np.float32]) -> tuple[ParityReport, float]:
        report = compare(self.reference, logits, self.limits, self.labels)
        return report, relative_logit_error(self.reference, logits)
