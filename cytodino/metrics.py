"""Scores from labels and predictions, all of them read off one confusion matrix.

The columns are those of the published comparisons on the MLL set (weighted F1, macro F1, accuracy,
weighted precision) and the one that a haematologist asks for: critical errors, which are critical
cells called safe (see `cytodino.taxonomy`). Definitions agree with scikit-learn's, with 0 where
a quotient has no denominator.

Everything is numpy alone, and what a bootstrap needs works on any stack of matrices at once, so
that a box without scikit-learn can hold a variant against its reference.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.errors import InputError
from cytodino.taxonomy import CLASSES, CODES, CRITICAL, N_CLASSES, SAFE

__all__ = [
    "CRITICAL_AS_SAFE",
    "MINIMUM_SUPPORT",
    "ClassScore",
    "CriticalErrors",
    "CriticalPair",
    "Scores",
    "confusion",
    "f1_from_confusion",
    "macro_f1_from_confusion",
    "score",
    "score_confusion",
    "supported_classes",
    "weighted_f1_from_confusion",
]

MINIMUM_SUPPORT = 20
"""Cells; a class with fewer has an F1 that one cell can move by several points."""

_CRITICAL = np.array([code in CRITICAL for code in CODES])  # (21,)
_SAFE = np.array([code in SAFE for code in CODES])  # (21,)
CRITICAL_AS_SAFE: NDArray[np.bool_] = _CRITICAL[:, None] & _SAFE[None, :]
"""bool, (21, 21), true class by predicted class: which confusions are critical errors."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassScore(_Record):
    """How one class fared."""

    code: str
    """Three letters."""
    name: str
    """The haematologist's name for it."""
    support: int
    """Cells that carry this label."""
    predicted: int
    """Cells that were given this class."""
    precision: float
    """0 to 1; 0 if no cell was given this class."""
    recall: float
    """0 to 1; 0 if no cell carries this label."""
    f1: float
    """0 to 1; 0 if the class neither occurs nor was predicted."""


class CriticalPair(_Record):
    """One kind of critical error."""

    true: str
    """Code of the critical class."""
    predicted: str
    """Code of the safe class that it was called."""
    count: int
    """Cells."""


class CriticalErrors(_Record):
    """Critical cells that were called safe."""

    count: int
    """Cells."""
    critical_cells: int
    """Cells whose label is critical: what `rate` is a share of."""
    rate: float | None
    """0 to 1; None if no label is critical, because then nothing was put to the test."""
    pairs: tuple[CriticalPair, ...]
    """Most frequent first, then in the order of the classes."""


class Scores(_Record):
    """What a set of predictions is worth against its labels."""

    n: int
    """Cells."""
    accuracy: float
    """Share of cells given their own label, 0 to 1."""
    weighted_f1: float
    """F1 averaged over the classes, weighted by support, 0 to 1."""
    macro_f1: float
    """F1 averaged over the `macro_f1_classes` classes that occur in the labels, 0 to 1."""
    macro_f1_classes: int
    """How many classes occur in the labels."""
    macro_f1_supported: float | None
    """The same over classes of 20 cells or more, 0 to 1; None if there are none."""
    macro_f1_supported_classes: int
    """How many classes have 20 cells or more."""
    weighted_precision: float
    """Precision averaged over the classes, weighted by support, 0 to 1."""
    critical_errors: CriticalErrors
    per_class: tuple[ClassScore, ...]
    """All 21, in the order of the logits, those without a cell too."""


def confusion(labels: np.ndarray, predictions: np.ndarray) -> NDArray[np.int64]:
    """Count every pair of label and prediction.

    Parameters
    ----------
    labels, predictions : integers, (n,), class indices 0 to 20

    Returns
    -------
    int64, (21, 21), rows the true class, columns the predicted one

    Raises
    ------
    InputError
        If the shapes differ, or an entry is no class index (an unlabelled cell's -1 included).
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise InputError(
            f"labels of shape {labels.shape} and predictions of shape {predictions.shape}",
            mend="give one label and one prediction for each cell",
        )
    for role, indices in (("label", labels), ("prediction", predictions)):
        _require_class_indices(indices, role)
    pairs = labels.astype(np.int64) * N_CLASSES + predictions.astype(np.int64)
    counts = np.bincount(pairs, minlength=N_CLASSES**2)  # (441,)
    return counts.reshape(N_CLASSES, N_CLASSES).astype(np.int64)


def _require_class_indices(indices: np.ndarray, role: str) -> None:
    if not np.issubdtype(indices.dtype, np.integer) and indices.size:
        raise InputError(f"each {role} has to be an integer, not {indices.dtype}")
    outside = np.flatnonzero((indices < 0) | (indices >= N_CLASSES))
    if outside.size:
        first = int(outside[0])
        raise InputError(
            f"{outside.size} of {indices.size} {role}s are no class index, "
            f"the first at position {first}: {indices[first]}",
            mend=f"use 0 to {N_CLASSES - 1}, and leave unlabelled cells out",
        )


def score(labels: np.ndarray, predictions: np.ndarray) -> Scores:
    """Score predictions against labels.

    Parameters
    ----------
    labels, predictions : integers, (n,), class indices 0 to 20, n >= 1

    Raises
    ------
    InputError
        If there is no cell, the shapes differ, or an entry is no class index.
    """
    return score_confusion(confusion(labels, predictions))


def score_confusion(matrix: np.ndarray) -> Scores:
    """Score a confusion matrix.

    Parameters
    ----------
    matrix : integers, (21, 21), rows the true class, columns the predicted one

    Raises
    ------
    InputError
        If the matrix has another shape, or holds no cell.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (N_CLASSES, N_CLASSES):
        raise InputError(f"a confusion matrix of shape {matrix.shape} instead of (21, 21)")
    n = int(matrix.sum())
    if n == 0:
        raise InputError("there is no cell to score", mend="give at least one labelled cell")
    support = matrix.sum(axis=1)  # (21,)
    precision = _precision(matrix)
    supported = supported_classes(matrix)
    return Scores(
        n=n,
        accuracy=float(np.trace(matrix) / n),
        weighted_f1=float(weighted_f1_from_confusion(matrix)),
        macro_f1=float(macro_f1_from_confusion(matrix)),
        macro_f1_classes=int((support > 0).sum()),
        macro_f1_supported=(
            float(macro_f1_from_confusion(matrix, classes=supported)) if supported.any() else None
        ),
        macro_f1_supported_classes=int(supported.sum()),
        weighted_precision=float(precision @ support / n),
        critical_errors=_critical_errors(matrix),
        per_class=_per_class(matrix, precision),
    )


def _per_class(matrix: np.ndarray, precision: np.ndarray) -> tuple[ClassScore, ...]:
    support, predicted = matrix.sum(axis=1), matrix.sum(axis=0)  # (21,) each
    recall = _quotient(np.diagonal(matrix), support)
    f1 = f1_from_confusion(matrix)
    return tuple(
        ClassScore(
            code=cell.code,
            name=cell.name,
            support=int(support[index]),
            predicted=int(predicted[index]),
            precision=float(precision[index]),
            recall=float(recall[index]),
            f1=float(f1[index]),
        )
        for index, cell in enumerate(CLASSES)
    )


def _critical_errors(matrix: np.ndarray) -> CriticalErrors:
    errors = np.where(CRITICAL_AS_SAFE, matrix, 0)  # (21, 21)
    critical_cells = int(matrix[_CRITICAL].sum())
    count = int(errors.sum())
    pairs = [
        CriticalPair(true=CODES[true], predicted=CODES[called], count=int(errors[true, called]))
        for true, called in np.argwhere(errors)
    ]
    return CriticalErrors(
        count=count,
        critical_cells=critical_cells,
        rate=count / critical_cells if critical_cells else None,
        pairs=tuple(sorted(pairs, key=lambda pair: -pair.count)),
    )


def supported_classes(matrix: np.ndarray, minimum: int = MINIMUM_SUPPORT) -> NDArray[np.bool_]:
    """Mark the classes with at least `minimum` labelled cells.

    Parameters
    ----------
    matrix : integers, (..., 21, 21)
    minimum : cells

    Returns
    -------
    bool, (..., 21)
    """
    return np.asarray(np.asarray(matrix).sum(axis=-1) >= minimum)


def f1_from_confusion(matrix: np.ndarray) -> NDArray[np.float64]:
    """Read each class's F1 off one confusion matrix or a stack of them.

    Parameters
    ----------
    matrix : (..., 21, 21), rows the true class, columns the predicted one

    Returns
    -------
    float64, (..., 21), 0 where the class neither occurs nor was predicted
    """
    matrix = np.asarray(matrix)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)  # (..., 21)
    return _quotient(2 * hits, matrix.sum(axis=-1) + matrix.sum(axis=-2))


def weighted_f1_from_confusion(matrix: np.ndarray) -> NDArray[np.float64]:
    """Average F1 over the classes, weighted by support.

    Parameters
    ----------
    matrix : (..., 21, 21), such as a bootstrap's resampled matrices

    Returns
    -------
    float64, (...), 0 for a matrix without a cell
    """
    matrix = np.asarray(matrix)
    support = matrix.sum(axis=-1)  # (..., 21)
    total = (f1_from_confusion(matrix) * support).sum(axis=-1)  # (...)
    return _quotient(total, support.sum(axis=-1))


def macro_f1_from_confusion(
    matrix: np.ndarray, *, classes: np.ndarray | None = None
) -> NDArray[np.float64]:
    """Average F1 over the classes that occur in the labels, each with the same weight.

    Parameters
    ----------
    matrix : (..., 21, 21), such as a bootstrap's resampled matrices
    classes : bool, (21,), optional
        The classes to average over; one that a resample happens to lack is left out there. Give
        a bootstrap the mask of the cells it resamples, or classes near the limit come and go.

    Returns
    -------
    float64, (...), NaN for a matrix in which none of the classes occurs
    """
    matrix = np.asarray(matrix)
    counted = matrix.sum(axis=-1) > 0  # (..., 21)
    if classes is not None:
        counted = counted & np.asarray(classes, dtype=bool)
    total = np.where(counted, f1_from_confusion(matrix), 0.0).sum(axis=-1)  # (...)
    return _quotient(total, counted.sum(axis=-1), empty=np.nan)


def _precision(matrix: np.ndarray) -> NDArray[np.float64]:
    return _quotient(np.diagonal(matrix), matrix.sum(axis=0))  # (21,)


def _quotient(top: np.ndarray, bottom: np.ndarray, empty: float = 0.0) -> NDArray[np.float64]:
    top, bottom = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    quotient = np.full(bottom.shape, empty)
    np.divide(top, bottom, out=quotient, where=bottom > 0)
    return quotient
