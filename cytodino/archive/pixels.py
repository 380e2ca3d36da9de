"""Rows of pixels out of a dataset, whatever its storage."""

import math
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import h5py
import numpy as np

from cytodino.archive.hdf5 import FAULTS, MAX_SLICE_BYTES, filter_names, reading, unwritten_rows
from cytodino.errors import CropError

Row = np.ndarray | CropError
Finish = Callable[[np.ndarray, int], Row]
"""What is done to the pixels of a row, in the pool's threads."""


class PixelRows:
    """Rows of a dataset (n, ...) of fixed shape.

    Parameters
    ----------
    dataset : shape (n, ...) with n >= 1, found by `find_dataset`
    path : the archive, for errors

    Raises
    ------
    ArchiveError
        If the index of the dataset is damaged.
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
        self._row_bytes: int = self.dtype.itemsize * math.prod(map(int, self.row_shape))
        self.how = "slices of h5py" + (f" ({', '.join(names)})" if names else "")
        """How the rows are read, for people."""

    def read(self, start: int, stop: int, pool: Executor | None, finish: Finish) -> list[Row]:
        """Read rows ``start`` to ``stop``, both inside the dataset.

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
            rows += self._slice(first, min(stop, first + at_once))

        def finished(pixels: Row, row: int) -> Row:
            return pixels if isinstance(pixels, CropError) else finish(pixels, row)

        spread = map if pool is None else pool.map
        return list(spread(finished, rows, range(start, stop)))

    def _slice(self, start: int, stop: int) -> list[Row]:
        try:
            block = self._dataset[start:stop]  # (k, ...)
        except FAULTS as error:  # one damaged chunk fails the whole slice
            if stop - start == 1:
                return [self._fault("its chunk is damaged", start, error)]
            return [self._slice(row, row + 1)[0] for row in range(start, stop)]
        return [
            self._fault("was never written", row) if self._unwritten[row] else pixels
            for row, pixels in enumerate(block, start=start)
        ]

    def _fault(self, reason: str, row: int, cause: BaseException | None = None) -> CropError:
        fault = CropError(reason, where=self._path, row=row, mend="copy or write the archive again")
        fault.__cause__ = cause
        return fault
