"""The worst cells for review as pictures on one sheet."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cytodino.archive import Archive
from cytodino.errors import CropError
from cytodino.pictures import contact_sheet
from cytodino_batch.review import ReviewCell

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_SHOWN = 40
"""Cells on a sheet: what a person sees at a glance, and reads in a moment from any archive."""

COLUMNS = 8

LEAST_WIDTH = 132
"""Pixels a cell's place is wide at least, so that its caption fits."""


def draw_review_sheet(archive: Archive, cells: Sequence[ReviewCell]) -> "Image":
    """Draw cells in their order, each below its row, class, confidence and runner-up.

    Parameters
    ----------
    archive : Archive
        Open; what the cells were classified from.
    cells : sequence of ReviewCell
        One whose crop cannot be read any more keeps its place, without a picture.

    Returns
    -------
    PIL.Image.Image, RGB
    """
    if not cells:
        return contact_sheet([_on_paper(None)], ["no cell for review"], 1)
    crops = [archive.read(cell.row, cell.row + 1)[0] for cell in cells]
    return contact_sheet(
        [_on_paper(None if isinstance(crop, CropError) else crop) for crop in crops],
        [f"{c.row} {c.label} {c.confidence:.2f} {c.runner_up}" for c in cells],
        min(COLUMNS, len(cells)),
    )


def _on_paper(crop: np.ndarray | None) -> np.ndarray:
    """Lay a crop at the left of white paper that is wide enough for its caption."""
    height, width = (1, 0) if crop is None else crop.shape[:2]
    paper = np.full((height, max(width, LEAST_WIDTH), 3), 255, dtype=np.uint8)
    if crop is not None:
        paper[:, :width] = crop
    return paper
