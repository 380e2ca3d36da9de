"""Reading the crops of an archive, whatever its layout."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np

from cytodino.archive.hdf5 import MAX_NAME_BYTES, find_dataset, open_hdf5, reading
from cytodino.archive.layout import Layout
from cytodino.archive.layouts import find_layout
from cytodino.errors import ArchiveError, CropError
from cytodino.taxonomy import CODES, N_CLASSES, unknown_classes

MAX_THREADS = 4
"""Decoding threads at most; more than that starve the engine."""

FEW_ROWS = 4
"""Fewer rows than this are decoded where they are asked for."""


def open_archive(path: Path, *, threads: int | None = None) -> "Archive":
    """Open an HDF5 archive of crops for reading.

    Parameters
    ----------
    path : the file
    threads : how many decode image files; by default as many as there are CPUs, up to 4

    Raises
    ------
    MissingPathError
        If the file is not there.
    ArchiveError
        If it is no HDF5 file, is truncated or locked, holds no crops, or contradicts itself.
    """
    file = open_hdf5(path)
    try:
        return Archive(file, path, find_layout(file, path), threads or available_threads())
    except BaseException:
        file.close()
        raise


def available_threads() -> int:
    """Return how many threads decode by default."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MAX_THREADS, cpus or 1)


class Archive:
    """An open archive; use it as a context manager, in the process that opened it."""

    def __init__(self, file: h5py.File, path: Path, rows: Layout, threads: int) -> None:
        self._file = file
        self._rows = rows
        self.threads = threads
        """How many decode image files."""
        self._pool: ThreadPoolExecutor | None = None
        self.path = path
        self.layout = rows.name
        """Name of the layout."""
        self.encoding = "files" if rows.encoded_files else "pixels"
        """What a row holds: the bytes of an image file, or pixels."""
        self.n = rows.n
        self.size = rows.size
        """Height and width in pixels where the file says that all crops share them, else None."""
        self.filters = rows.filters
        """HDF5 filters on the crops, in the order in which they were applied."""
        self.checksums = rows.checksums
        """uint32 (n,), crc32 of each row's stored bytes."""
        self.slide = _read_text(file, path, "slide") or path.stem
        self.channel_order = _read_text(file, path, "channel_order") or "rgb"
        if self.channel_order != "rgb":
            raise ArchiveError(
                f"has the channel order {self.channel_order!r}",
                where=path,
                mend="pack the images again; only rgb is read",
            )
        self._ids = self._side_table("ids", (self.n,))
        self._labels = self._side_table("labels", (self.n,))
        self._coords = self._side_table("coords", (self.n, 2))
        self.has_ids = self._ids is not None
        self.dataset_names = tuple(sorted(file))

    def __len__(self) -> int:
        return self.n

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and end the decoding threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._file.close()

    def read(self, start: int, stop: int) -> list[np.ndarray | CropError]:
        """Read rows ``start`` to ``stop``, like a slice of a list.

        Returns
        -------
        One entry a row: uint8 (h, w, 3) RGB, or the `CropError` that says why the row cannot be
        used. Nothing is raised for a damaged row, and nothing put in its place.
        """
        start, stop, _ = slice(start, stop).indices(self.n)
        if stop <= start:
            return []
        if self._pool is None and self.threads > 1 and stop - start >= FEW_ROWS:
            self._pool = ThreadPoolExecutor(self.threads, "decode")
        return self._rows.read(start, stop, self._pool if stop - start >= FEW_ROWS else None)

    def encoded(self, row: int) -> bytes:
        """Return one row as the bytes of an image file: the one packed, or a PNG of the pixels.

        Raises
        ------
        CropError
            If the row is damaged.
        """
        return self._rows.encoded(self._row(row))

    def encoded_size(self, row: int) -> int:
        """Return the length in bytes of what `encoded` returns."""
        return self._rows.encoded_size(self._row(row))

    def crc32(self, row: int) -> int:
        """Return the checksum that was stored for a row."""
        return int(self.checksums[self._row(row)])

    @cached_property
    def ids(self) -> list[str]:
        """What each crop is called; its row number where the archive has no ``/ids``."""
        if self._ids is None:
            return [str(row) for row in range(self.n)]
        with reading(self.path, "/ids"):
            return [_text(value) for value in self._ids[:].tolist()]

    @cached_property
    def labels(self) -> np.ndarray | None:
        """int64 (n,), class index, -1 where unlabelled; None without ``/labels``.

        Raises
        ------
        TaxonomyError
            If a label is none of the 21 codes.
        ArchiveError
            If a number is none of -1 to 20, or the labels cannot be read.
        """
        if self._labels is None:
            return None
        with reading(self.path, "/labels"):
            values = self._labels[:]
        if values.dtype.kind in "iu":
            if values.max() >= N_CLASSES or values.min() < -1:
                raise ArchiveError(
                    f"/labels has numbers outside 0 to {N_CLASSES - 1}",
                    where=self.path,
                    mend="write the codes of the classes instead",
                )
            return np.asarray(values.astype(np.int64))
        return self._indices(values.tolist())

    @cached_property
    def coords(self) -> np.ndarray | None:
        """int64 (n, 2), x and y of each crop on the slide in pixels; None without ``/coords``."""
        if self._coords is None:
            return None
        with reading(self.path, "/coords"):
            return np.asarray(self._coords[:]).astype(np.int64)

    def _indices(self, values: Sequence[bytes | str]) -> np.ndarray:
        with reading(self.path, "/labels"):
            codes = [_text(value) for value in values]
        index = {code: position for position, code in enumerate(CODES)}
        index[""] = -1
        unknown = set(codes).difference(index)
        if unknown:
            raise unknown_classes(unknown, where=f"{self.path}: /labels")
        return np.array([index[code] for code in codes], dtype=np.int64)

    def _row(self, row: int) -> int:
        if not 0 <= row < self.n:
            raise IndexError(f"row {row} of {self.n}")
        return row

    def _side_table(self, name: str, shape: tuple[int, ...]) -> h5py.Dataset | None:
        """Find a table beside the crops and check what can be checked without reading it."""
        dataset = find_dataset(self._file, self.path, name)
        if dataset is None:
            return None
        wrong: str | None = None
        with reading(self.path, f"/{name}"):
            text = h5py.check_string_dtype(dataset.dtype) is not None
            if dataset.shape != shape:
                wrong = f"has the shape {dataset.shape}, not {shape}"
            elif dataset.dtype.itemsize > MAX_NAME_BYTES:
                wrong = f"has entries of {dataset.dtype.itemsize} bytes"
            elif not (text and name != "coords" or dataset.dtype.kind in "iu" and name != "ids"):
                wrong = f"is {dataset.dtype}, not {'whole numbers' if name == 'coords' else 'text'}"
            elif dataset.id.get_storage_size() == 0:
                wrong = "was never written"
        if wrong is not None:
            raise ArchiveError(f"/{name} {wrong}", where=self.path, mend="pack the images again")
        return dataset


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _read_text(file: h5py.File, path: Path, name: str) -> str | None:
    with reading(path, f"the attribute {name}"):
        value = file.attrs.get(name)
        return _text(value) if isinstance(value, bytes | str) else None
