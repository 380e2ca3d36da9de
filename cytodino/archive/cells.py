"""The crops of an archive as a source of cells."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from cytodino.archive.options import NO_OPTIONS, ReadOptions
from cytodino.archive.reader import Archive, open_archive
from cytodino.cells import CellSource
from cytodino.errors import ArchiveError, CropError, InputError


class ArchiveCells(CellSource):
    """The crops of an HDF5 archive."""

    kind = "archive"

    def __init__(self, path: Path, options: ReadOptions = NO_OPTIONS) -> None:
        self.path = path
        self._options = options
        self._opened_in: int | None = None
        self._archive: Archive | None = None
        self._stamp: tuple[int, int] | None = None
        archive = self._open()
        self.ids = archive.ids
        self.labels = archive.labels
        self.coords = archive.coords
        self.slide = archive.slide
        self.notes = archive.notes
        if len(set(self.ids)) != len(self.ids):
            raise InputError(
                "/ids names different crops alike", where=path, mend="give each crop its own id"
            )

    def read(self, index: int) -> np.ndarray:
        """Read one row."""
        crop = self._open().read(index, index + 1)[0]
        if isinstance(crop, CropError):
            raise crop
        return crop

    def encoded(self, index: int) -> bytes:
        """Return one row as the bytes of an image file."""
        return self._open().encoded(index)

    def encoded_size(self, index: int) -> int:
        """Return the length in bytes of what `encoded` returns."""
        return self._open().encoded_size(index)

    def checksum(self, index: int) -> int:
        """Return the crc32 that the archive holds for the row, or else of what it holds."""
        return self._open().crc32(index)

    def stamps(self) -> np.ndarray:
        """Ask for the status of the archive, which is every crop's."""
        status = self.path.stat()
        stamp = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        return np.tile(np.array(stamp, dtype=np.int64), (len(self), 1))

    def _open(self) -> Archive:
        # HDF5 handles carried across a fork read wrong data, so each process opens its own.
        if self._archive is None or self._opened_in != os.getpid():
            archive = open_archive(self.path, options=self._options)
            status = self.path.stat()
            stamp = (status.st_size, status.st_mtime_ns)
            if self._stamp not in (None, stamp):
                raise ArchiveError("has changed since it was opened", where=self.path)
            self._archive, self._stamp = archive, stamp
            self._opened_in = os.getpid()
        return self._archive

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None, "_opened_in": None}
