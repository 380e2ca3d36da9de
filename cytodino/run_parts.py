"""Which part of a run's division a cell belongs to, where cells come from elsewhere."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from cytodino.cell_index import read_index
from cytodino.cells import CellSource, open_cells
from cytodino.console import message
from cytodino.errors import CropError, CytoDinoError

if TYPE_CHECKING:
    from cytodino.run import Run
    from cytodino.run_manifest import DataRecord

__all__ = ["STRANGER", "parts_in"]

Names = Sequence[str]

STRANGER = "stranger"
"""In place of a part's name: the run has never seen the cell."""

ALIKE = 6.0
"""Mean difference of two crops' values, 0 to 255, up to which they are the same cell: one that was
saved again as JPEG, or decoded by another library, is no stranger. Measured on 800 real cells:
saved again at quality 95 to 50 they were 1 to 4.3 off, and of 39,495 pairs of two cells none was
nearer than 14.9."""

_NAMES: "WeakKeyDictionary[CellSource, dict[str, Names]]" = WeakKeyDictionary()
"""What a run calls each cell, by source and the run's fingerprint: an export asks thrice, and to
compare may be to decode everything."""


def parts_in(run: "Run", source: CellSource) -> NDArray[np.str_]:
    """Say of each cell of a source which part of a run's division it is in.

    A cell is the run's own if it bears the name of one and looks the same: names such as
    BLA/00001.png occur in many folders. Under another name it is found again where its file has
    not changed, or the source holds its pixels as they are. Where the run's own cells are gone, or
    were changed since, the name alone tells, and that is said on stderr.

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
    found = [part_of.get(name, STRANGER) for name in _names_in(run, source)]
    return np.array([*found, STRANGER])[:-1]  # wide enough for that word


def _names_in(run: "Run", source: CellSource) -> Names:
    """Return what the run calls each cell, "" where it has never seen it."""
    recorded = run.manifest.data
    if recorded is None or _fingerprint(source) == recorded.fingerprint:
        return source.ids
    known = _NAMES.setdefault(source, {})
    if recorded.fingerprint not in known:
        known[recorded.fingerprint] = _compare(source, recorded)
    return known[recorded.fingerprint]


def _compare(source: CellSource, recorded: "DataRecord") -> Names:
    own = _open_unchanged(recorded)
    if own is None:
        message(
            f"the cells that the run was trained on are not at {recorded.path} as they were: "
            f"which of those in {source.path} it has seen is told by name alone"
        )
        return source.ids
    row_of = {name: row for row, name in enumerate(own.ids)}
    pairs = [(row, row_of[name]) for row, name in enumerate(source.ids) if name in row_of]
    kept = {row for row, own_row in pairs if _same(source, row, own, own_row)}
    renamed = _find_renamed(source, [row for row in range(len(source)) if row not in kept], own)
    others = len([row for row, _ in pairs if row not in kept and row not in renamed])
    if others:
        message(
            f"{others} cells of {source.path} bear names of the run's cells and are "
            "others: the run has not seen them"
        )
    if renamed:
        message(
            f"{len(renamed)} cells of {source.path} are the run's own under other names: they are "
            "in the parts that those are in"
        )
    return [name if row in kept else renamed.get(row, "") for row, name in enumerate(source.ids)]


def _find_renamed(source: CellSource, rows: Sequence[int], own: CellSource) -> dict[int, str]:
    """Find the run's names of cells that bear others, by the crc32 of their files or pixels.

    By chance two have the same: of 10,000 cells beside 171,374 of the run's, 0.4. Those that judge
    are then one too few, never one too many.
    """
    name_of = dict(zip(own.checksums(), own.ids, strict=True))
    index = read_index(own)
    pixels = zip(index.pixels[index.known].tolist(), np.flatnonzero(index.known), strict=True)
    name_of |= {checksum: own.ids[row] for checksum, row in pixels}
    found = {}
    for row in rows:
        with suppress(CropError):  # whoever uses it will say what is wrong with it
            name = name_of.get(source.checksum(row))
            if name is not None:
                found[row] = name
    return found


def _open_unchanged(recorded: "DataRecord") -> CellSource | None:
    """Open the cells that a run was trained on; None where they are gone or others."""
    with suppress(CytoDinoError, OSError):
        own = open_cells(Path(recorded.path))
        if own.fingerprint() == recorded.fingerprint:
            return own
    return None


def _fingerprint(source: CellSource) -> str | None:
    with suppress(CropError):  # of a cell that nobody may ask for
        return source.fingerprint()
    return None


def _same(one: CellSource, row: int, other: CellSource, other_row: int) -> bool:
    try:
        if one.checksum(row) == other.checksum(other_row):
            return True  # of files, or of pixels; an archive of pixels has others than a folder
        crop, its = one.read(row), other.read(other_row)
    except CropError:
        return True  # whoever uses it will say what is wrong with it
    if crop.shape != its.shape:
        return False
    return float(np.abs(crop.astype(np.int16) - its).mean()) <= ALIKE
