"""Crops as the bytes of their image files, end to end."""

from concurrent.futures import Executor
from pathlib import Path
from typing import Self
from zlib import crc32

import h5py
import numpy as np

from cytodino.archive.hdf5 import FAULTS, MAX_SLICE_BYTES, find_dataset, reading
from cytodino.archive.layout import Layout, check_length
from cytodino.archive.options import ReadOptions
from cytodino.archive.own import DAMAGED, TABLES, check_own, own_dataset
from cytodino.archive.spread import spread
from cytodino.errors import ArchiveError, CropError
from cytodino.images import MAX_SIDE, decode_rgb

MAX_ENCODED_BYTES = MAX_SIDE * MAX_SIDE * 3 + (1 << 20)
"""No file of a crop is longer than its pixels and a mebibyte of metadata."""


class EncodedLayout(Layout):
    """``/bytes``, uint8 (total,), the image files end to end, and ``/offsets``, (n + 1,)."""

    name = "cytodino encoded"
    tables = TABLES
    strict = True
    stored_as = "encoded"
    how = "one read a slice, image files decoded in threads"
    checksums: np.ndarray

    def __init__(self, file: h5py.File, path: Path, payload: h5py.Dataset) -> None:
        if payload.dtype != np.uint8 or payload.ndim != 1:
            raise ArchiveError(
                f"/bytes is {payload.dtype} {payload.shape}, not uint8 (total,)",
                where=path,
                mend="pack the images again",
            )
        self._offsets = _read_offsets(file, path, payload.shape[0])
        super().__init__(file, path, payload, len(self._offsets) - 1)

    @classmethod
    def find(cls, file: h5py.File, path: Path, options: ReadOptions) -> Self | None:
        """Return the layout if the file is an archive of this project with ``/bytes``."""
        payload = own_dataset(file, path, "bytes", options)
        if payload is None:
            return None
        found = cls(file, path, payload)
        found.checksums = check_own(found, options)
        return found

    def read(self, start: int, stop: int, pool: Executor | None) -> list[np.ndarray | CropError]:
        """Return rows ``start`` to ``stop``, read at once and decoded by the pool's threads."""
        files = self._files(start, stop)
        return spread(pool, lambda row: self._decoded(files[row - start], row), range(start, stop))

    def encoded(self, row: int) -> bytes:
        """Return the bytes of the file that was packed."""
        data = self._files(row, row + 1)[0]
        if isinstance(data, CropError):
            raise data
        self._check(data, row)
        return data

    def encoded_size(self, row: int) -> int:
        """Return the length of a row's file in bytes."""
        return int(self._offsets[row + 1] - self._offsets[row])

    def _files(self, start: int, stop: int) -> list[bytes | CropError]:
        offsets = self._offsets[start : stop + 1].tolist()
        first, last = offsets[0], offsets[-1]
        if last - first <= MAX_SLICE_BYTES:
            try:
                data = self.payload[first:last].tobytes()
            except FAULTS as error:
                if stop - start == 1:
                    fault = self.fault("its bytes cannot be read", start)
                    fault.__cause__ = error
                    return [fault]
            else:
                return [
                    data[begin - first : end - first]
                    for begin, end in zip(offsets[:-1], offsets[1:], strict=True)
                ]
        elif stop - start == 1:
            return [self.fault(f"is {last - first} bytes long", start)]
        return [self._files(row, row + 1)[0] for row in range(start, stop)]

    def _decoded(self, data: bytes | CropError, row: int) -> np.ndarray | CropError:
        if isinstance(data, CropError):
            return data
        try:
            self._check(data, row)
            return decode_rgb(data, self.path, row)
        except CropError as error:
            return error

    def _check(self, data: bytes, row: int) -> None:
        if len(data) > MAX_ENCODED_BYTES:
            raise self.fault(f"is {len(data)} bytes long", row)
        if crc32(data) != self.checksums[row]:
            raise self.fault(DAMAGED, row)


def _read_offsets(file: h5py.File, path: Path, total: int) -> np.ndarray:
    dataset = find_dataset(file, path, "offsets")
    if dataset is None or dataset.dtype.kind not in "iu" or dataset.ndim != 1:
        raise ArchiveError(
            "has /bytes, but no /offsets of whole numbers to find the files in it",
            where=path,
            mend="pack the images again",
        )
    check_length(path, "offsets", dataset.shape[0] * dataset.dtype.itemsize)
    with reading(path, "/offsets"):
        offsets: np.ndarray = dataset[:]
    if len(offsets) and (offsets.max() > total or offsets.min() < 0):
        raise ArchiveError(
            f"/offsets points outside the {total} bytes of /bytes",
            where=path,
            mend="pack the images again",
        )
    offsets = offsets.astype(np.int64)
    if np.any(np.diff(offsets) < 0):
        raise ArchiveError("/offsets goes backwards", where=path, mend="pack the images again")
    return offsets
