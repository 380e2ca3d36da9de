"""Every cell is decoded once before training: a damaged one is found now, not after an hour."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from cytodino.cell_index import now_ns, read_index, write_index
from cytodino.cells import CellSource
from cytodino.errors import CropError, InputError
from cytodino.images import checksum
from cytodino.machine import cores_available
from cytodino.training.observer import Observer

BLOCK = 2048
"""Cells that are handed to the threads at a time."""

Read = tuple[int, int] | CropError
"""Checksum as stored, checksum of the pixels; or why there is none."""


def read_all(cells: CellSource, observer: Observer) -> np.ndarray:
    """Decode every cell that has changed since it was last decoded here.

    Returns
    -------
    uint32, (n,), crc32 of each cell's pixels

    Raises
    ------
    CropError
        If one cannot be read.
    InputError
        If several cannot; the first is named.
    """
    began, stamps = now_ns(), cells.stamps()
    index = read_index(cells)
    stored, pixels = index.stored.copy(), index.pixels.copy()
    unknown = np.flatnonzero(~index.known)
    damaged: list[CropError] = []
    if len(unknown):
        observer.begin("checking images", len(unknown))
    for row, found in zip(unknown.tolist(), _decode(cells, unknown), strict=True):
        if isinstance(found, CropError):
            damaged.append(found)
        else:
            stored[row], pixels[row] = found
        observer.advance()
    if len(damaged) > 1:
        raise InputError(
            f"{len(damaged)} of {len(cells)} images cannot be used; first, {damaged[0]}",
            where=cells.path,
        ) from damaged[0]
    if damaged:
        raise damaged[0]
    if stamps is not None and len(unknown):
        try:
            write_index(cells, stamps, stored, pixels, began)
        except OSError as error:
            observer.say(
                f"warning: what was read of {cells.path} is not remembered ({error.strerror})"
            )
    return pixels


def _decode(cells: CellSource, rows: np.ndarray) -> Iterator[Read]:
    """Yield what each row holds; files in threads, since they decode outside Python's lock."""
    read = partial(_read, cells)
    if cells.kind != "folder":  # an archive has one handle, and HDF5 one lock
        yield from map(read, rows.tolist())
        return
    with ThreadPoolExecutor(cores_available()) as pool:
        for start in range(0, len(rows), BLOCK):
            yield from pool.map(read, rows[start : start + BLOCK].tolist())


def _read(cells: CellSource, row: int) -> Read:
    try:
        return cells.checksum(row), checksum(cells.read(row))
    except CropError as error:
        return error
