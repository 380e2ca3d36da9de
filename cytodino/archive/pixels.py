"""Rows of pixels out of a dataset, read the fastest way that its storage allows."""

import math
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import h5py
import numpy as np

from cytodino.archive.chunks import ChunkReader, Failure, Values
from cytodino.archive.filters import find_undo
from cytodino.archive.hdf5 import (
    FAULTS,
    MAX_SLICE_BYTES,
    filter_names,
    reading,
    require_honest_chunks,
    unwritten_rows,
)
from cytodino.archive.spread import spread
from cytodino.errors import CropError

Row = np.ndarray | CropError
Finish = Callable[[np.ndarray, int], Row]
"""What is done to the pixels of a row, in the pool's threads."""

MAX_BAND_BYTES = 128 << 20
"""Pixels of a band, the rows that share their chunks, which are decoded and kept together."""

MAX_BAND_CHUNKS = 2048
"""Of smaller chunks than that, handing each over takes longer than HDF5 takes for it."""


class PixelRows:
    """Rows of a dataset (n, ...) of fixed shape, to the bit what ``dataset[row]`` gives.

    Chunks whose filters are known are taken as they are stored, and decoded by the pool's
    threads. Everything else goes through HDF5, in slices, and by whole bands where several rows
    share a chunk: the last band is kept, so that no chunk is decoded for every batch again.

    Parameters
    ----------
    dataset : shape (n, ...) with n >= 1, found by `find_dataset`
    path : the archive, for errors

    Raises
    ------
    ArchiveError
        If the index of the dataset is damaged, or a chunk is a decompression bomb.
    """

    def __init__(self, dataset: h5py.Dataset, path: Path) -> None:
        self._dataset = dataset
        self._path = path
        self.n: int = dataset.shape[0]
        self.row_shape: tuple[int, ...] = dataset.shape[1:]
        self.dtype: np.dtype = dataset.dtype
        with reading(path, f"the index of {dataset.name}"):
            self._unwritten = unwritten_rows(dataset)
            names = filter_names(dataset)
            undo = find_undo(dataset) if dataset.chunks is not None else None
        self._chunks = None if undo is None else ChunkReader(dataset, undo)
        self._row_bytes: int = self.dtype.itemsize * math.prod(map(int, self.row_shape))
        self._band_rows: int = 1 if dataset.chunks is None else dataset.chunks[0]
        self._kept: dict[int, Values] = {}
        self._fetch = self._choose(bool(names))
        if self._fetch == self._slices or self._chunks is None:
            require_honest_chunks(dataset, path)
        self.how = self._describe(names)
        """How the rows are read, for people."""

    def read(self, start: int, stop: int, pool: Executor | None, finish: Finish) -> list[Row]:
        """Read rows ``start`` to ``stop``, both inside the dataset; one thread at a time may.

        Parameters
        ----------
        start, stop : the first row, and the one after the last
        pool : whose threads do what HDF5 does not have to; None does all of it here
        finish : given the pixels of each good row (of `row_shape`, writable) and its number,
            returns what stands for the row; it raises nothing

        Returns
        -------
        One entry a row. What cannot be read, or was never written, is a `CropError`; nothing is
        raised.
        """
        rows: list[Row] = []
        at_once = max(1, MAX_SLICE_BYTES // max(1, self._row_bytes))
        for first in range(start, stop, at_once):
            rows += self._part(first, min(stop, first + at_once), pool, finish)
        return rows

    def _part(self, start: int, stop: int, pool: Executor | None, finish: Finish) -> list[Row]:
        fetched = self._fetch(start, stop, pool)

        def work(row: int) -> Row:
            if self._unwritten[row]:
                return self._fault("was never written", row)
            pixels = fetched(row)
            if isinstance(pixels, Failure):
                return self._fault("its chunk is damaged", row)
            return finish(pixels, row)

        return spread(pool, work, range(start, stop))

    def _choose(self, filtered: bool) -> Callable[..., Callable[[int], Values]]:
        shape, chunk = self._dataset.shape, self._dataset.chunks
        # HDF5 has nothing to decode, or entries of any length, of which a band may be any size.
        if not filtered or self.dtype.kind == "O":
            return self._slices
        if chunk == (1, *self.row_shape):
            return self._row_chunks if self._chunks is not None else self._slices
        count = math.prod(-(-shape[axis] // chunk[axis]) for axis in range(1, len(shape)))
        if count > MAX_BAND_CHUNKS or self._band_rows * self._row_bytes > MAX_BAND_BYTES:
            return self._slices
        if self._band_rows == 1 and self._chunks is None:
            return self._slices
        return self._bands

    def _describe(self, names: tuple[str, ...]) -> str:
        filters = ", ".join(names) or "no filter"
        band = f", {self._band_rows} rows together" if self._fetch == self._bands else ""
        if self._chunks is None or self._fetch == self._slices:
            return f"read through HDF5 ({filters}{band})"
        return f"chunks read directly ({filters}{band}), decoded in threads"

    def _slices(self, start: int, stop: int, pool: Executor | None) -> Callable[[int], Values]:
        """Read a slice through HDF5."""
        block = self._by_hdf5(start, stop)
        if isinstance(block, Failure):  # one damaged chunk fails the whole slice
            return self._row_by_hdf5

        def fetch(row: int) -> Values:
            pixels: np.ndarray = block[row - start]
            return pixels

        return fetch

    def _row_chunks(self, start: int, stop: int, pool: Executor | None) -> Callable[[int], Values]:
        """Leave everything to the threads: each row is a chunk of its own."""
        chunks = self._chunks
        assert chunks is not None
        inner = (0,) * len(self.row_shape)

        def fetch(row: int) -> Values:
            values = chunks.read((row, *inner))
            if values is Failure.FOREIGN:
                return self._row_by_hdf5(row)
            return values if isinstance(values, Failure) else values[0]

        return fetch

    def _bands(self, start: int, stop: int, pool: Executor | None) -> Callable[[int], Values]:
        """Decode the bands that the rows lie in; the last one is kept for the rows after them."""
        k = self._band_rows
        wanted = range(start // k, (stop - 1) // k + 1)
        kept = self._kept  # once: `pack` reads in threads, and another may keep another band
        missing = [band for band in wanted if band not in kept and not self._lacks(band)]
        bands = kept | self._read_bands(missing, pool)
        last = wanted[-1]
        self._kept = {last: bands[last]} if k > 1 and last in bands else {}

        def fetch(row: int) -> Values:
            block = bands[row // k]
            if isinstance(block, Failure):
                return block
            pixels: np.ndarray = block[row % k]
            return pixels.copy() if k > 1 else pixels  # what is kept is not handed out

        return fetch

    def _lacks(self, band: int) -> bool:
        """Tell whether a part of a band, and so of each of its rows, was never written."""
        return bool(self._unwritten[band * self._band_rows])

    def _read_bands(self, bands: list[int], pool: Executor | None) -> dict[int, Values]:
        found: dict[int, Values] = dict.fromkeys(bands, Failure.FOREIGN)
        if self._chunks is not None:
            found = self._chunks.read_bands(bands, pool)
        for band in bands:
            if found[band] is Failure.FOREIGN:
                first = band * self._band_rows
                found[band] = self._by_hdf5(first, min(self.n, first + self._band_rows))
        return found

    def _row_by_hdf5(self, row: int) -> Values:
        block = self._by_hdf5(row, row + 1)
        return block if isinstance(block, Failure) else block[0]

    def _by_hdf5(self, start: int, stop: int) -> Values:
        try:
            block: np.ndarray = self._dataset[start:stop]  # (k, ...)
        except FAULTS:
            return Failure.DAMAGED
        return block

    def _fault(self, reason: str, row: int) -> CropError:
        return CropError(reason, where=self._path, row=row, mend="copy or write the archive again")
