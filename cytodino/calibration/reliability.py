"""How far confidence can be believed: reliability diagram, calibration error, risk and coverage."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.errors import InputError

__all__ = ["BINNING", "Bin", "CoveragePoint", "Reliability", "RiskCoverage", "measure_reliability",
           "measure_risk"]  # fmt: skip

BINS = 15
"""Of the diagram and of ECE, as in Guo et al., ICML 2017."""

BINNING = f"{BINS} bins of equal width from 0 to 1, of the top-1 probability; a bin's upper edge \
belongs to it"

MOST_POINTS = 200
"""Points of a curve that are kept: as many as a plot can show."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bin(_Record):
    """The cells whose confidence lies in one part of the scale."""

    low: float
    high: float
    cells: int
    confidence: float | None
    """Mean of its cells, 0 to 1; None without a cell."""
    accuracy: float | None
    """Share of its cells that were given their own label."""


class Reliability(_Record):
    """Confidence against accuracy."""

    binning: str
    ece: float
    """Expected calibration error, 0 to 1: mean gap of a bin's accuracy and confidence, weighted by
    its cells. Never 0 on finite cells, even of a perfect model."""
    overconfidence: float
    """Mean confidence minus accuracy; above 0 the model claims more than it keeps."""
    bins: tuple[Bin, ...]


class CoveragePoint(_Record):
    """What is wrong among the most confident cells, if so many are kept."""

    coverage: float
    """Share of all cells that are kept, 0 to 1."""
    risk: float
    """Share of those that are wrong."""
    threshold: float
    """Least confidence among them."""


class RiskCoverage(_Record):
    """The risk-coverage curve (El-Yaniv and Wiener, JMLR 11, 2010)."""

    area: float
    """Mean risk over all coverages, 0 to 1; the smaller, the better confidence ranks the cells."""
    points: tuple[CoveragePoint, ...]
    """From the most confident cells to all; cells of one confidence stay together."""


def measure_reliability(confidences: NDArray[np.floating], right: NDArray[np.bool_]) -> Reliability:
    """Hold confidence against accuracy, bin by bin.

    Parameters
    ----------
    confidences : (n,), top-1 probabilities, 0 to 1, n >= 1
    right : bool, (n,), whether each cell was given its own label

    Raises
    ------
    InputError
        If there is no cell, or the lengths differ.
    """
    _require_cells(confidences, right)
    values = confidences.astype(np.float64)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    place = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, BINS - 1)  # (low, high]
    cells = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, weights=values, minlength=BINS)
    hits = np.bincount(place, weights=right, minlength=BINS)
    return Reliability(
        binning=BINNING,
        ece=float(np.abs(hits - sums).sum() / len(values)),
        overconfidence=float(values.mean() - right.mean()),
        bins=tuple(
            Bin(
                low=float(edges[at]),
                high=float(edges[at + 1]),
                cells=int(n),
                confidence=float(sums[at] / n) if n else None,
                accuracy=float(hits[at] / n) if n else None,
            )
            for at, n in enumerate(cells)
        ),
    )


def measure_risk(confidences: NDArray[np.floating], wrong: NDArray[np.bool_]) -> RiskCoverage:
    """Follow the risk as fewer and fewer cells are sent to review.

    Parameters
    ----------
    confidences : (n,), n >= 1
    wrong : bool, (n,), whether each cell counts as an error

    Raises
    ------
    InputError
        If there is no cell, or the lengths differ.
    """
    _require_cells(confidences, wrong)
    order = np.argsort(-confidences, kind="stable")
    ranked, errors = confidences[order], np.cumsum(wrong[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each confidence
    risk = errors[last] / (last + 1)
    share = np.diff(last, prepend=-1) / len(ranked)
    kept = np.unique(np.linspace(0, len(last) - 1, MOST_POINTS).round().astype(int))
    return RiskCoverage(
        area=float((risk * share).sum()),
        points=tuple(
            CoveragePoint(
                coverage=float((last[at] + 1) / len(ranked)),
                risk=float(risk[at]),
                threshold=float(ranked[last[at]]),
            )
            for at in kept
        ),
    )


def _require_cells(confidences: NDArray[np.floating], answers: NDArray[np.bool_]) -> None:
    if len(confidences) == 0 or confidences.shape != answers.shape:
        raise InputError(
            f"{len(confidences)} confidences and {len(answers)} answers",
            mend="give at least one cell, and one of each for every cell",
        )
