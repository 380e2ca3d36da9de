"""Reading the crops of an archive, whatever its layout."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

import h5py
import numpy as np

from cytodino.archive.hdf5 import changed, open_hdf5, reading
from cytodino.archive.layout import Layout
from cytodino.archive.layouts import find_layout
from cytodino.archive.options import NO_OPTIONS, ReadOptions
from cytodino.archive.tables import Tables
from cytodino.errors import CropError
from cytodino.images import checksum
from cytodino.paths import Stamp, stamp_of
from cytodino.texts import Texts

MAX_THREADS = 4
"""Decoding threads at most; more than that starve the engine."""

FEW_ROWS = 4
"""Fewer rows than this are decoded where they are asked for."""


def open_archive(
    path: Path,
    *,
    threads: int | None = None,
    options: ReadOptions = NO_OPTIONS,
    probe: bool = False,
) -> "Archive":
    """Open an HDF5 archive of crops for reading.

    Parameters
    ----------
    path : the file
    threads : how many decode image files; by default as many as there are CPUs, up to 4
    options : what the user says about the file that it does not say itself
    probe : try another tool's file in a child process first, which takes half a second; for
        unattended runs, because HDF5 hangs on some damage

    Raises
    ------
    MissingPathError
        If the file is not there.
    ArchiveError
        If it is no HDF5 file, is truncated or locked, holds no crops, can be read in two ways, or
        contradicts itself or the options.
    """
    file = open_hdf5(path)
    try:
        opened = stamp_of(file.id.get_vfd_handle())
        # HDF5 can fail anywhere in a damaged file: even on the names of what is in it.
        with reading(path, "its structure"):
            if probe:
                # Here, because the module is a program too: the one that the child runs.
                from cytodino.archive.probe import probe_foreign

                probe_foreign(file, path, options)
            rows = find_layout(file, path, options)
            return Archive(file, rows, threads or available_threads(), options, opened)
    except BaseException:
        file.close()
        raise


def available_threads() -> int:
    """Return how many threads decode by default."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MAX_THREADS, cpus or 1)


class Archive:
    """An open archive; use it as a context manager, in the process that opened it."""

    def __init__(
        self, file: h5py.File, rows: Layout, threads: int, options: ReadOptions, opened: Stamp
    ) -> None:
        path = rows.path
        self._file = file
        self._rows = rows
        self.threads = threads
        """How many decode image files."""
        self._pool: ThreadPoolExecutor | None = None
        self.path = path
        self.stamp = opened
        """Of the file as it was opened."""
        self.layout = rows.name
        """Name of the layout."""
        self.dataset = rows.dataset
        """Where in the file the crops are."""
        self.encoding = "files" if rows.encoded_files else "pixels"
        """What a row holds: the bytes of an image file, or pixels."""
        self.how = rows.how
        """How rows are read, for people."""
        self.n = rows.n
        self.size = rows.size
        """Height and width in pixels where the file says that all crops share them, else None."""
        self.dtype = str(rows.payload.dtype)
        """Of what is stored; what is read is uint8."""
        self.filters = rows.filters
        """HDF5 filters on the crops, in the order in which they were applied."""
        self.checksums = rows.checksums
        """uint32 (n,), crc32 of each row's stored bytes; None where the file has none."""
        self.slide = rows.slide or path.stem
        self.channel_order = rows.channel_order
        """Of what is stored; what is read is RGB."""
        self._tables = Tables(rows, options)
        self.has_ids = self._tables.has_ids
        self.notes: tuple[str, ...] = (*rows.notes, *self._tables.notes)
        """What was taken for granted and has to be said aloud."""

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

    def require_unchanged(self) -> None:
        """Refuse what was read if anybody wrote to the file since it was opened.

        Raises
        ------
        ArchiveError
            If so.
        """
        if stamp_of(self._file.id.get_vfd_handle()) != self.stamp:
            raise changed(self.path)

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

    def visit(self) -> None:
        """Go where HDF5 itself has to go for the rows, without decoding any."""
        self._rows.visit()

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
        """Return the crc32 of what is stored for a row, computed where the file has none.

        Raises
        ------
        CropError
            If it has to be computed and the row is damaged.
        """
        if self.checksums is not None:
            return int(self.checksums[self._row(row)])
        if self.encoding == "files":
            return crc32(self.encoded(row))
        (pixels,) = self.read(self._row(row), row + 1)
        if isinstance(pixels, CropError):
            raise pixels
        return checksum(pixels)

    @property
    def ids(self) -> list[str]:
        """What each crop is called; its row number where the archive does not say."""
        return self._tables.ids

    @property
    def names(self) -> Texts:
        """The ids again, in less than half the memory: for archives of any length."""
        return self._tables.names

    @property
    def labels(self) -> np.ndarray | None:
        """int64 (n,), class index, -1 where unlabelled; None where nothing is labelled at all.

        Raises
        ------
        TaxonomyError
            If a label is none of the 21 codes.
        ArchiveError
            If a number is none of -1 to 20, or the labels cannot be read.
        """
        return self._tables.labels

    @property
    def coords(self) -> np.ndarray | None:
        """int64 (n, 2), x and y of each crop on the slide in pixels; None where not known."""
        return self._tables.coords

    def _row(self, row: int) -> int:
        if not 0 <= row < self.n:
            raise IndexError(f"row {row} of {self.n}")
        return row
