"""What every layout of crops in a file has to offer, and the checks that ours share."""

from abc import ABC, abstractmethod
from concurrent.futures import Executor
from pathlib import Path
from typing import ClassVar, Self

import h5py
import numpy as np

from cytodino.archive.hdf5 import filter_names, find_dataset, reading
from cytodino.errors import ArchiveError, CropError

FORMAT = "cytodino-archive"
VERSION = 1
"""The newest version of the format that is read here, and the one that is written."""

DAMAGED = "its bytes do not match their checksum"


class Layout(ABC):
    """The crops of one open file."""

    name: ClassVar[str]
    """Shown by ``inspect`` and kept with results."""
    encoded_files: ClassVar[bool]
    """Whether a row is the bytes of an image file, or pixels."""

    def __init__(self, file: h5py.File, path: Path, payload: h5py.Dataset, n: int) -> None:
        self.path = path
        self.payload = payload
        """The dataset that holds the pixels or files."""
        self.n = n
        self.checksums = _read_checksums(file, path, n)
        """uint32 (n,), crc32 of each row's stored bytes."""

    @classmethod
    @abstractmethod
    def find(cls, file: h5py.File, path: Path) -> Self | None:
        """Return the layout if the file is of this kind, or None if it is of another.

        Raises
        ------
        ArchiveError
            If it is of this kind, and broken.
        """

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels where all crops share them, else None."""
        return None

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the HDF5 filters on the crops."""
        return filter_names(self.payload)

    @abstractmethod
    def read(self, start: int, stop: int, pool: Executor | None) -> list[np.ndarray | CropError]:
        """Return rows ``start`` to ``stop``: uint8 (h, w, 3), or what is wrong with the row."""

    @abstractmethod
    def encoded(self, row: int) -> bytes:
        """Return one row as the bytes of an image file, checked; raises `CropError`."""

    def encoded_size(self, row: int) -> int:
        """Return the length in bytes of what `encoded` returns."""
        return len(self.encoded(row))

    def fault(self, reason: str, row: int) -> CropError:
        """Form the error for one row."""
        return CropError(reason, where=self.path, row=row, mend="pack the archive again")


def own_dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset | None:
    """Return a dataset of an archive that this project wrote, or None of any other file.

    Raises
    ------
    ArchiveError
        If the archive is of a newer version, or the dataset is not in this very file.
    """
    with reading(path, "its format"):
        written_by = file.attrs.get("format")
        version = file.attrs.get("version")
    if written_by not in (FORMAT, FORMAT.encode()):
        return None
    if not isinstance(version, int | np.integer) or version < 1:
        raise ArchiveError(f"has the version {version}", where=path, mend="pack the images again")
    if version > VERSION:
        raise ArchiveError(
            f"is of version {version}, and {VERSION} is the newest known here",
            where=path,
            mend="upgrade: pip install -U cytodino",
        )
    return find_dataset(file, path, name)


def _read_checksums(file: h5py.File, path: Path, n: int) -> np.ndarray:
    if n < 1:
        raise ArchiveError("holds no crop", where=path, mend="pack the images again")
    dataset = find_dataset(file, path, "crc32")
    if dataset is None or dataset.dtype != np.uint32 or dataset.shape != (n,):
        raise ArchiveError(
            f"has no /crc32 with one uint32 for each of its {n} crops",
            where=path,
            mend="pack the images again",
        )
    check_length(path, "crc32", n * 4)
    with reading(path, "/crc32"):
        return np.asarray(dataset[:])


def check_length(path: Path, name: str, size: int) -> None:
    """Refuse a table that declares more bytes than its file has."""
    # A few bytes of header can declare any extent; checksums and offsets hardly compress, so
    # honest ones are shorter than the file.
    if size > path.stat().st_size:
        raise ArchiveError(
            f"/{name} declares more bytes than the file has",
            where=path,
            mend="copy or write it again",
        )
