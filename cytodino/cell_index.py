"""What is known of cells that were read before: checksums, kept in this machine's cache folder.

Reading 171,374 image files takes minutes, and asking for their sizes and times a second or two. A
file of the same size, time of change and time of status change as before is taken to hold what it
held, as version control and backups do; the time of status change cannot be set back by a program.
Remove the folder `cells` in the cache folder to have everything read again.
"""

import hashlib
import os
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cytodino.machine import cache_folder

if TYPE_CHECKING:
    from cytodino.cells import CellSource

VERSION = 1
"""Of the file's content; another is read anew."""

SETTLED_NS = 2_000_000_000
"""A file changed less than this before it was read may change again within its clock's grain (two
seconds on FAT): it is not remembered."""


@dataclass(frozen=True)
class CellIndex:
    """What is known of some cells, in their order."""

    known: np.ndarray
    """bool, (n,); what is not is 0 in the arrays below."""
    stored: np.ndarray
    """uint32, (n,), `CellSource.checksum`: crc32 of the file's bytes, or of the archive's row."""
    pixels: np.ndarray
    """uint32, (n,), crc32 of the decoded pixels."""


def read_index(cells: "CellSource") -> CellIndex:
    """Read what is known of cells; nothing, where there is no index or it cannot be used."""
    nothing = np.zeros(len(cells), dtype=np.uint32)
    unknown = CellIndex(nothing.astype(bool), nothing, nothing)
    stamps = cells.stamps()
    path = index_path(cells.path)
    if stamps is None or not path.is_file():
        return unknown
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if int(content["version"]) != VERSION:
                return unknown
            ids = content["ids"].tobytes().decode("utf-8").split("\0")
            before, stored, pixels = (content[name] for name in ("stamps", "stored", "pixels"))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return unknown  # it was of use only for its speed
    if ids == cells.ids:
        rows = np.arange(len(ids))
    else:
        place = {name: row for row, name in enumerate(ids)}
        rows = np.array([place.get(name, -1) for name in cells.ids], dtype=np.int64)
    known = (rows >= 0) & (before[rows] == stamps).all(axis=1)
    return CellIndex(known, np.where(known, stored[rows], 0), np.where(known, pixels[rows], 0))


def write_index(
    cells: "CellSource", stamps: np.ndarray, stored: np.ndarray, pixels: np.ndarray, began_ns: int
) -> None:
    """Remember what was read of cells.

    Parameters
    ----------
    cells : CellSource
    stamps : int64, (n, 3), as they were before the cells were read
    stored, pixels : uint32, (n,), see `CellIndex`
    began_ns : nanoseconds since 1970 when the reading began

    Raises
    ------
    OSError
        If the cache folder cannot be written.
    """
    settled = stamps[:, 1:].max(axis=1) < began_ns - SETTLED_NS
    rows = np.flatnonzero(settled)
    if not len(rows):
        return
    path = index_path(cells.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = "\0".join(cells.ids[row] for row in rows).encode("utf-8")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as beside:
        partial = Path(beside) / path.name
        np.savez(
            partial,
            version=np.array(VERSION),
            ids=np.frombuffer(names, dtype=np.uint8),
            stamps=stamps[rows],
            stored=stored[rows],
            pixels=pixels[rows],
        )
        os.replace(partial, path)


def index_path(source: Path) -> Path:
    """Return where the index of a folder or archive lies."""
    key = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:32]
    return cache_folder() / "cells" / f"{key}.npz"


def now_ns() -> int:
    """Return the time by the clock that stamps files, nanoseconds since 1970."""
    return time.time_ns()
