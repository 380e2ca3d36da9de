"""Chunks taken out of the file as they are stored, and decoded in threads."""

import math
from collections.abc import Iterator
from concurrent.futures import Executor
from enum import Enum, auto
from itertools import product

import h5py
import numpy as np

from cytodino.archive.filters import Undo
from cytodino.archive.hdf5 import FAULTS
from cytodino.archive.spread import spread

Offset = tuple[int, ...]


class Failure(Enum):
    """Why there are no values."""

    DAMAGED = auto()
    FOREIGN = auto()
    """Stored in a way that only HDF5 knows: read it through HDF5."""


Values = np.ndarray | Failure


class ChunkReader:
    """The chunks of a dataset whose filters can be undone here.

    Parameters
    ----------
    dataset : chunked, (n, ...)
    undo : what undoes its filters
    """

    def __init__(self, dataset: h5py.Dataset, undo: Undo) -> None:
        self._id = dataset.id
        self._undo = undo
        self._shape: tuple[int, ...] = dataset.shape
        self._chunk: tuple[int, ...] = dataset.chunks
        self._dtype: np.dtype = dataset.dtype
        self._size = self._dtype.itemsize * math.prod(self._chunk)

    def read(self, offset: Offset) -> Values:
        """Return the values of the chunk at an offset: of the chunk's shape, writable."""
        # No filter makes a chunk so much longer. A longer one is an index that lies, and is
        # refused before anything is allocated for it.
        buffer = np.empty(self._size + self._size // 8 + 4096, dtype=np.uint8)
        try:
            skipped, stored = self._id.read_direct_chunk(offset, out=buffer)
        except FAULTS:
            return Failure.DAMAGED
        if skipped:
            return Failure.FOREIGN
        values = self._undo(stored)
        if values is not None:
            return values.reshape(self._chunk)
        # By an option of HDF5, a chunk over the edge is stored without filters, and unmarked.
        unfiltered = self._over_edge(offset) and len(stored) == self._size
        return Failure.FOREIGN if unfiltered else Failure.DAMAGED

    def read_bands(self, bands: list[int], pool: Executor | None) -> dict[int, Values]:
        """Return the rows of some bands; a band is what one chunk spans of the first axis.

        Beyond the rows of the last band there may be more, which mean nothing.
        """
        if self._chunk[1:] == self._shape[1:]:  # one chunk a band: nothing to put together
            inner = (0,) * len(self._chunk[1:])
            values = spread(pool, lambda band: self.read((band * self._chunk[0], *inner)), bands)
            return dict(zip(bands, values, strict=True))
        blocks = {band: np.empty(self._band_shape(band), self._dtype) for band in bands}

        def place(offset: Offset) -> Failure | None:
            values = self.read(offset)
            if isinstance(values, Failure):
                return values
            block = blocks[offset[0] // self._chunk[0]]
            target = block[(slice(None), *map(slice, offset[1:], self._ends(offset)))]
            target[...] = values[tuple(map(slice, target.shape))]
            return None

        offsets = [offset for band in bands for offset in self._offsets(band)]
        found: dict[int, Values] = dict(blocks)
        for offset, failure in zip(offsets, spread(pool, place, offsets), strict=True):
            band = offset[0] // self._chunk[0]
            if failure is not None and found[band] is not Failure.DAMAGED:
                found[band] = failure
        return found

    def _band_shape(self, band: int) -> tuple[int, ...]:
        rows = self._chunk[0]
        return (min(rows, self._shape[0] - band * rows), *self._shape[1:])

    def _offsets(self, band: int) -> Iterator[Offset]:
        steps = zip(self._shape[1:], self._chunk[1:], strict=True)
        inner = (range(0, length, step) for length, step in steps)
        return product((band * self._chunk[0],), *inner)

    def _ends(self, offset: Offset) -> list[int]:
        return [begin + step for begin, step in zip(offset[1:], self._chunk[1:], strict=True)]

    def _over_edge(self, offset: Offset) -> bool:
        return any(
            begin + step > length
            for begin, step, length in zip(offset, self._chunk, self._shape, strict=True)
        )
