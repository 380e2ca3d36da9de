"""How crops lie in a file: one class a layout, tried in the order of `LAYOUTS`.

A layout knows where the pixels of a row are and how to get them; labels, ids and checksums are
the reader's. To read another tool's archives, add its class to `LAYOUTS`.
"""

from abc import ABC, abstractmethod
from concurrent.futures import Executor
from pathlib import Path
from typing import ClassVar, Self
from zlib import crc32

import h5py
import numpy as np

from cytodino.archive.hdf5 import (
    FAULTS,
    describe_datasets,
    filter_names,
    find_dataset,
    reading,
    unwritten_rows,
)
from cytodino.errors import ArchiveError, CropError
from cytodino.images import MAX_SIDE, decode_rgb, encode_png

FORMAT = "cytodino-archive"
VERSION = 1
"""The newest version of the format that is read here, and the one that is written."""

MAX_ENCODED_BYTES = MAX_SIDE * MAX_SIDE * 3 + (1 << 20)
"""No file of a crop is longer than its pixels and a mebibyte of metadata."""

MAX_SLICE_BYTES = 256 << 20
"""What is read at once; longer slices are read row by row."""

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


class RawLayout(Layout):
    """``/crops``, uint8 (n, h, w, 3), RGB."""

    name = "cytodino raw"
    encoded_files = False

    def __init__(self, file: h5py.File, path: Path, payload: h5py.Dataset) -> None:
        shape = payload.shape
        if payload.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise ArchiveError(
                f"/crops is {payload.dtype} {shape}, not uint8 (n, h, w, 3)",
                where=path,
                mend="pack the images again",
            )
        if not 1 <= min(shape[1:3]) <= max(shape[1:3]) <= MAX_SIDE:
            raise ArchiveError(
                f"/crops declares crops of {shape[1]} x {shape[2]} px, not 1 to {MAX_SIDE}",
                where=path,
                mend="pack the images again",
            )
        super().__init__(file, path, payload, shape[0])
        with reading(path, "the index of /crops"):
            self._unwritten = unwritten_rows(payload)

    @classmethod
    def find(cls, file: h5py.File, path: Path) -> Self | None:
        """Return the layout if the file is an archive of this project with ``/crops``."""
        payload = _own_dataset(file, path, "crops")
        return None if payload is None else cls(file, path, payload)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.payload.shape[1], self.payload.shape[2]

    def read(self, start: int, stop: int, pool: Executor | None) -> list[np.ndarray | CropError]:
        """Return rows ``start`` to ``stop``; they are slices of one array where all are well."""
        height, width = self.size
        if (stop - start) * height * width * 3 > MAX_SLICE_BYTES:
            return [self._row(row) for row in range(start, stop)]
        try:
            block = self.payload[start:stop]  # (k, h, w, 3)
        except FAULTS:  # one damaged chunk fails the whole slice
            return [self._row(row) for row in range(start, stop)]
        return [self._checked(pixels, start + k) for k, pixels in enumerate(block)]

    def encoded(self, row: int) -> bytes:
        """Return one row as a PNG file."""
        pixels = self._row(row)
        if isinstance(pixels, CropError):
            raise pixels
        return encode_png(pixels)

    def _row(self, row: int) -> np.ndarray | CropError:
        try:
            pixels: np.ndarray = self.payload[row]
        except FAULTS as error:
            fault = self.fault("its chunk is damaged", row)
            fault.__cause__ = error
            return fault
        return self._checked(pixels, row)

    def _checked(self, pixels: np.ndarray, row: int) -> np.ndarray | CropError:
        if self._unwritten[row]:
            return self.fault("was never written", row)
        if crc32(pixels) != self.checksums[row]:
            return self.fault(DAMAGED, row)
        return pixels


class EncodedLayout(Layout):
    """``/bytes``, uint8 (total,), the image files end to end, and ``/offsets``, (n + 1,)."""

    name = "cytodino encoded"
    encoded_files = True

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
    def find(cls, file: h5py.File, path: Path) -> Self | None:
        """Return the layout if the file is an archive of this project with ``/bytes``."""
        payload = _own_dataset(file, path, "bytes")
        return None if payload is None else cls(file, path, payload)

    def read(self, start: int, stop: int, pool: Executor | None) -> list[np.ndarray | CropError]:
        """Return rows ``start`` to ``stop``, read at once and decoded by the pool's threads."""
        spread = map if pool is None else pool.map
        return list(spread(self._decoded, self._files(start, stop), range(start, stop)))

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


LAYOUTS: tuple[type[Layout], ...] = (EncodedLayout, RawLayout)


def find_layout(file: h5py.File, path: Path) -> Layout:
    """Find out how an open file holds its crops.

    Raises
    ------
    ArchiveError
        If no layout fits, or the one that does is broken or of a newer version.
    """
    for layout in LAYOUTS:
        found = layout.find(file, path)
        if found is not None:
            return found
    with reading(path, "its contents"):
        has = describe_datasets(file)
    raise ArchiveError(
        f"holds no crops in a layout known here; it holds {has}",
        where=path,
        mend="write archives with cytodino pack",
    )


def _own_dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset | None:
    """Return a dataset of an archive that this project wrote, its version checked."""
    with reading(path, "its format"):
        written_by = file.attrs.get("format")
        version = file.attrs.get("version")
    if written_by not in (FORMAT, FORMAT.encode()):
        return None
    if not isinstance(version, int | np.integer) or version < 1:
        raise ArchiveError(f"has the version {version!r}", where=path, mend="pack the images again")
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
    _check_length(path, "crc32", n * 4)
    with reading(path, "/crc32"):
        return np.asarray(dataset[:])


def _read_offsets(file: h5py.File, path: Path, total: int) -> np.ndarray:
    dataset = find_dataset(file, path, "offsets")
    if dataset is None or dataset.dtype.kind not in "iu" or dataset.ndim != 1:
        raise ArchiveError(
            "has /bytes, but no /offsets of whole numbers to find the files in it",
            where=path,
            mend="pack the images again",
        )
    _check_length(path, "offsets", dataset.shape[0] * dataset.dtype.itemsize)
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


def _check_length(path: Path, name: str, size: int) -> None:
    # A few bytes of header can declare any extent; checksums and offsets hardly compress, so
    # honest ones are shorter than the file.
    if size > path.stat().st_size:
        raise ArchiveError(
            f"/{name} declares more bytes than the file has",
            where=path,
            mend="copy or write it again",
        )
