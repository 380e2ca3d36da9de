"""Cells that a person should look at, the worst first.

Worst is where a mistake would matter most and is likeliest. So the reasons come in this order,
and within each the least confident cell comes first:

1. a critical class, doubtful: it may be a false alarm, or the one cell that matters;
2. doubtful, with a critical runner-up: a critical cell may have been missed;
3. a critical class, confident: to be confirmed;
4. doubtful between classes that are not critical.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cytodino.paths import PrintableText
from cytodino.taxonomy import CODES
from cytodino_batch.classification import Classification
from cytodino_batch.section import Section

MOST_LISTED = 100
"""Cells that `summary.json` lists: as many as are looked at in one go; `predictions.csv` flags
all of them."""

Reason = Literal[
    "critical class, doubtful",
    "doubtful, critical runner-up",
    "critical class",
    "doubtful",
]

REASONS: tuple[Reason, ...] = get_args(Reason)
"""Worst first."""

ORDER = "by reason, in the order of `reasons`; within one by confidence, the lowest first"


class ReviewCell(Section):
    """One cell to look at."""

    row: int
    id: PrintableText
    x: int | float | None
    y: int | float | None
    label: str
    confidence: float
    runner_up: str
    reason: Reason


class Review(Section):
    """The section `review` of `summary.json`."""

    below: float
    """Confidence, 0 to 1, below which a cell is doubtful."""
    total: int
    reasons: dict[Reason, int]
    """Cells by reason, each cell under one, worst first."""
    order: str
    listed: int
    """How many of `total` are in `cells`; `predictions.csv` flags all of them."""
    cells: tuple[ReviewCell, ...]


def rank_cells(result: Classification) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank the cells for review.

    Returns
    -------
    int64, (r,)
        Their positions among the classified rows, worst first; equal ones in row order.
    int64, (r,)
        Index into `REASONS` of each.
    """
    doubtful = result.confidence < result.review_below
    reason = np.select(
        [
            result.critical & doubtful,
            result.critical_runner_up & doubtful,
            result.critical,
        ],
        [0, 1, 2],
        default=3,
    )
    order = np.lexsort((result.rows, result.confidence, reason))
    ranked = order[result.review[order]]
    return ranked, reason[ranked]


def list_review(result: Classification, *, most: int = MOST_LISTED) -> Review:
    """List the worst cells, at most `most` of them, and count them all by reason."""
    ranked, reasons = rank_cells(result)
    counts = np.bincount(reasons, minlength=len(REASONS)).tolist()
    cells = tuple(
        _describe_cell(result, position, REASONS[reason])
        for position, reason in zip(ranked[:most].tolist(), reasons[:most].tolist(), strict=True)
    )
    return Review(
        below=result.review_below,
        total=len(ranked),
        reasons=dict(zip(REASONS, counts, strict=True)),
        order=ORDER,
        listed=len(cells),
        cells=cells,
    )


def _describe_cell(result: Classification, position: int, reason: Reason) -> ReviewCell:
    row = int(result.rows[position])
    best, second = result.ranking[position]
    x, y = (None, None) if result.coords is None else result.coords[row].tolist()
    return ReviewCell(
        row=row,
        id=result.ids[row],
        x=x,
        y=y,
        label=CODES[best],
        confidence=round(float(result.confidence[position]), 6),
        runner_up=CODES[second],
        reason=reason,
    )
