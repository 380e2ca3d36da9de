"""How far scores would move on other cells like these: percentile bootstrap intervals.

Cells are drawn again with replacement, which for scores that are read off the confusion matrix is
a multinomial draw of its counts (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13). Cells count as drawn one by one: where several come from one patient, the truth is
wider.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.errors import InputError
from cytodino.metrics import (
    CRITICAL_AS_SAFE,
    f1_from_confusion,
    macro_f1_from_confusion,
    supported_classes,
    weighted_f1_from_confusion,
)
from cytodino.taxonomy import CODES, CRITICAL, N_CLASSES

__all__ = ["ClassIntervals", "Interval", "Intervals", "bootstrap_scores"]

ROUNDS = 2000
SEED = 0
LEVEL = 0.95

_CRITICAL = np.array([code in CRITICAL for code in CODES])  # (21,)

Interval = tuple[float, float]
"""Lower and upper end, 0 to 1."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassIntervals(_Record):
    """Of one class; None where no cell carries its label, or was given it, in any draw."""

    code: str
    precision: Interval | None
    recall: Interval | None
    f1: Interval | None


class Intervals(_Record):
    """95 % intervals of what `Scores` holds."""

    method: str = "percentile bootstrap over cells, each drawn by itself"
    rounds: int = ROUNDS
    seed: int = SEED
    level: float = LEVEL
    accuracy: Interval
    weighted_f1: Interval
    macro_f1: Interval
    macro_f1_supported: Interval | None
    """Over the classes that have 20 cells or more in the cells at hand."""
    weighted_precision: Interval
    critical_error_rate: Interval | None
    """None without a cell of a critical class."""
    per_class: tuple[ClassIntervals, ...]


def bootstrap_scores(matrix: NDArray[np.int64]) -> Intervals:
    """Draw the cells of a confusion matrix again and again, and see how the scores spread.

    Parameters
    ----------
    matrix : int64, (21, 21), rows the true class, columns the predicted one

    Raises
    ------
    InputError
        If it holds no cell.
    """
    n = int(matrix.sum())
    if n == 0:
        raise InputError("there is no cell to draw", mend="give at least one labelled cell")
    drawn = np.random.default_rng(SEED).multinomial(n, matrix.ravel() / n, size=ROUNDS)
    stack = drawn.reshape(ROUNDS, N_CLASSES, N_CLASSES)
    support, predicted = stack.sum(axis=2), stack.sum(axis=1)  # (rounds, 21)
    hits = np.diagonal(stack, axis1=1, axis2=2)  # (rounds, 21)
    precision, recall = _quotient(hits, predicted), _quotient(hits, support)
    f1 = np.where(support > 0, f1_from_confusion(stack), np.nan)
    supported = supported_classes(matrix)
    critical = support[:, _CRITICAL].sum(axis=1)
    missed = np.where(CRITICAL_AS_SAFE, stack, 0).sum(axis=(1, 2))
    weighted = (np.nan_to_num(precision) * support).sum(axis=1) / n
    accuracy = _require(_interval(hits.sum(axis=1) / n))
    return Intervals(
        accuracy=accuracy,
        weighted_f1=_require(_interval(weighted_f1_from_confusion(stack))),
        macro_f1=_require(_interval(macro_f1_from_confusion(stack))),
        macro_f1_supported=(
            _interval(macro_f1_from_confusion(stack, classes=supported))
            if supported.any()
            else None
        ),
        weighted_precision=_require(_interval(weighted)),
        critical_error_rate=_interval(_quotient(missed, critical)),
        per_class=tuple(
            ClassIntervals(
                code=code,
                precision=_interval(precision[:, at]),
                recall=_interval(recall[:, at]),
                f1=_interval(f1[:, at]),
            )
            for at, code in enumerate(CODES)
        ),
    )


def _interval(values: NDArray[np.float64]) -> Interval | None:
    """Find the ends of the middle 95 % of the draws in which the score is defined."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def _require(interval: Interval | None) -> Interval:
    assert interval is not None  # defined in every draw of at least one cell
    return interval


def _quotient(top: NDArray[np.int64], bottom: NDArray[np.int64]) -> NDArray[np.float64]:
    found = np.full(bottom.shape, np.nan)
    np.divide(top, bottom, out=found, where=bottom > 0)
    return found
