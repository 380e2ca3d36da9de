"""What every layout of crops in a file has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from cytodino.archive.hdf5 import filter_names, reading
from cytodino.archive.options import ChannelOrder, StoredAs
from cytodino.errors import ArchiveError, CropError
from cytodino.images import encode_png
from cytodino.paths import printable


class Layout(ABC):
    """The crops of one open file."""

    name: ClassVar[str]
    """Shown by ``inspect`` and kept with results."""
    tables: Mapping[str, str] = {}
    """Which dataset is the table of ``ids``, ``labels`` or ``coords``, where the layout says so."""
    strict: ClassVar[bool] = False
    """Whether a table that does not fit refuses the archive; else it is left out, aloud."""

    stored_as: StoredAs
    how: str
    """How rows are read, for people."""
    channel_order: ChannelOrder = "rgb"
    """Of what is stored; what is read is RGB."""
    notes: tuple[str, ...] = ()
    """What was taken for granted because the file does not say it."""
    checksums: np.ndarray | None = None
    """uint32 (n,), crc32 of each row's stored bytes; None where the file has none."""

    def __init__(self, file: h5py.File, path: Path, payload: h5py.Dataset, n: int) -> None:
        if n < 1:
            raise ArchiveError("holds no crop", where=path, mend="pack the images again")
        # A few bytes of header can declare any extent; no real crop is smaller than a byte.
        check_length(path, payload.name.lstrip("/"), n)
        self.file = file
        self.path = path
        self.payload = payload
        """The dataset that holds the pixels or files."""
        self.n = n

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels where all crops share them, else None."""
        return None

    @property
    def dataset(self) -> str:
        """Where in the file the crops are."""
        return str(self.payload.name)

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the HDF5 filters on the crops."""
        return filter_names(self.payload)

    @property
    def encoded_files(self) -> bool:
        """Whether a row is the bytes of an image file, or pixels."""
        return self.stored_as == "encoded"

    @property
    def slide(self) -> str | None:
        """Name of the slide, where the file says it."""
        return read_text(self.file, self.path, "slide", strict=self.strict)

    @property
    def ids(self) -> list[str] | None:
        """What each crop is called, where that lies in no table."""
        return None

    @property
    def coords(self) -> np.ndarray | None:
        """int64 (n, 2), x and y of each crop, where that lies in no table."""
        return None

    @abstractmethod
    def read(self, start: int, stop: int, pool: Executor | None) -> list[np.ndarray | CropError]:
        """Return rows ``start`` to ``stop``: uint8 (h, w, 3), or what is wrong with the row."""

    def visit(self) -> None:
        """Go where HDF5 itself has to go for the rows, without decoding any."""
        with reading(self.path, "the index of the crops"):
            if self.payload.chunks is not None:
                self.payload.id.get_num_chunks()

    def encoded(self, row: int) -> bytes:
        """Return one row as the bytes of an image file, checked; raises `CropError`."""
        pixels = self.read(row, row + 1, None)[0]
        if isinstance(pixels, CropError):
            raise pixels
        return encode_png(pixels)

    def encoded_size(self, row: int) -> int:
        """Return the length in bytes of what `encoded` returns."""
        return len(self.encoded(row))

    def fault(self, reason: str, row: int) -> CropError:
        """Form the error for one row."""
        return CropError(reason, where=self.path, row=row, mend="copy or write the archive again")


def check_length(path: Path, name: str, size: int) -> None:
    """Refuse a dataset that declares more bytes, or rows, than its file has bytes."""
    if size > path.stat().st_size:
        raise ArchiveError(
            f"/{name} declares more bytes than the file has",
            where=path,
            mend="copy or write it again",
        )


def read_text(item: h5py.HLObject, path: Path, name: str, *, strict: bool = False) -> str | None:
    """Return an attribute that is text, or None where there is none, or it is of another kind.

    Bytes that are no UTF-8 come back as escapes: a slide called Müller in Latin-1 can be read.
    Strictly, where nobody would have written them, they are an `ArchiveError`.
    """
    with reading(path, f"the attribute {name}"):
        value = item.attrs.get(name)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "strict" if strict else "backslashreplace")
    return printable(value) if isinstance(value, str) else None


def as_text(value: bytes | str) -> str:
    """Decode what HDF5 gives for text."""
    return value.decode("utf-8") if isinstance(value, bytes) else value
