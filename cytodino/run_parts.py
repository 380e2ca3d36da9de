"""Which part of a run's division a cell belongs to, where cells come from elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from cytodino.cells import CellSource, open_cells
from cytodino.errors import CropError, CytoDinoError

if TYPE_CHECKING:
    from cytodino.run import Run
    from cytodino.run_manifest import DataRecord

__all__ = ["STRANGER", "parts_in"]

STRANGER = "stranger"
"""In place of a part's name: the run has never seen the cell."""

_OTHERS: "WeakKeyDictionary[CellSource, dict[str, NDArray[np.int64]]]" = WeakKeyDictionary()
"""Rows by source and the run's fingerprint: an export asks thrice, and to compare may be to decode
everything."""


def parts_in(run: "Run", source: CellSource) -> NDArray[np.str_]:
    """Say of each cell of a source which part of a run's division it is in.

    A cell is the run's own if it bears the name of one and has the same pixels: names such as
    BLA/00001.png occur in many folders. Where the run's own cells are gone, or were changed since,
    the name alone tells.

    Parameters
    ----------
    run : Run
    source : CellSource
        The run's cells, some of them in another form, or others.

    Returns
    -------
    str, (n,), a part's name or `STRANGER`
    """
    part_of = {name: part for part, names in run.split.items() for name in names}
    found = [part_of.get(name, STRANGER) for name in source.ids]
    parts = np.array([*found, STRANGER])[:-1]  # wide enough for that word
    if (parts != STRANGER).any():
        parts[_namesakes(run, source)] = STRANGER
    return parts


def _namesakes(run: "Run", source: CellSource) -> NDArray[np.int64]:
    """Rows of cells that bear the name of one of the run's and are others."""
    recorded = run.manifest.data
    if recorded is None or source.fingerprint() == recorded.fingerprint:
        return np.empty(0, dtype=np.int64)
    known = _OTHERS.setdefault(source, {})
    if recorded.fingerprint not in known:
        own = _open_unchanged(recorded)
        row_of = {} if own is None else {name: row for row, name in enumerate(own.ids)}
        others = [
            row
            for row, name in enumerate(source.ids)
            if own is not None and name in row_of and not _same(source, row, own, row_of[name])
        ]
        known[recorded.fingerprint] = np.array(others, dtype=np.int64)
    return known[recorded.fingerprint]


def _open_unchanged(recorded: "DataRecord") -> CellSource | None:
    """Open the cells that a run was trained on; None where they are gone or others."""
    try:
        own = open_cells(Path(recorded.path))
        return own if own.fingerprint() == recorded.fingerprint else None
    except (CytoDinoError, OSError):
        return None


def _same(one: CellSource, row: int, other: CellSource, other_row: int) -> bool:
    if one.checksum(row) == other.checksum(other_row):
        return True  # of files, or of pixels; an archive of pixels has others than a folder
    try:
        return np.array_equal(one.read(row), other.read(other_row))
    except CropError:
        return True  # whoever uses it will say what is wrong with it
