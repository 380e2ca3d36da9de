"""Exact copies of a cell in two parts: what was trained on would be judged."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from cytodino.errors import TrainingError
from cytodino.parts import PARTS
from cytodino.training.parts import DividedCells

SHOWN = 20
"""Pairs that are named."""


def refuse_duplicates(divided: DividedCells, checksums: np.ndarray) -> None:
    """Refuse cells of the same pixels in different parts.

    Parameters
    ----------
    divided : DividedCells
    checksums : uint32, (n,), crc32 of each cell's pixels; equal ones are then read and compared

    Raises
    ------
    TrainingError
        If there are any; the pairs are named.
    """
    pairs = list(_pairs(divided, checksums))
    if not pairs:
        return
    ids, parts = divided.cells.ids, divided.parts
    named = [f"{ids[a]} ({parts[a]}) = {ids[b]} ({parts[b]})" for a, b in pairs[:SHOWN]]
    more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    raise TrainingError(
        f"{len(pairs)} pairs of cells in different parts have the same pixels: "
        f"{', '.join(named)}{more}",
        where=divided.cells.path,
        mend="take one of each pair out of the data, or put both into one part by --groups",
    )


def _pairs(divided: DividedCells, checksums: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield pairs of copies, in the order of the cells' names."""
    order = np.argsort(checksums, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(checksums[order]) != 0])
    places = {part: place for place, part in enumerate(PARTS)}
    for alike in np.split(order, starts[1:]):
        if len(set(divided.parts[alike].tolist())) < 2:
            continue
        crops = {int(row): divided.cells.read(int(row)) for row in alike}
        by_part = sorted(crops, key=lambda row: places[str(divided.parts[row])])
        for a, b in combinations(by_part, 2):
            if divided.parts[a] != divided.parts[b] and np.array_equal(crops[a], crops[b]):
                yield a, b
