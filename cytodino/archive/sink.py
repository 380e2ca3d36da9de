"""HDF5 files written through Python, so that a disk that refuses ends in an error, not a crash."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import h5py


class Sink:
    """The file object that HDF5 writes to; it keeps the first failure to itself.

    HDF5 cannot close a file that it could not write, tries again when the process ends, and dies
    there. So it is told that all is well, and whoever writes asks for the failure. From there on
    what it writes is kept in memory, for it reads back what it wrote, and dies of anything else.

    Parameters
    ----------
    file : opened without a buffer, for reading and writing
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._place = 0
        self._kept: list[tuple[int, bytes]] = []
        self.fault: BaseException | None = None

    def write(self, data: Any) -> int:
        """Write at the place in hand."""
        begin, self._place = self._place, self._place + len(data)
        if self.fault is None:
            self._try(lambda: self._put(begin, data), None)
        if self.fault is not None:
            self._kept.append((begin, bytes(data)))
        return len(data)

    def read(self, size: int) -> bytes:
        """Read at the place in hand; h5py wants a file to have this, and uses `readinto`."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def readinto(self, buffer: Any) -> int:
        """Read at the place in hand, into a buffer; zeros beyond the end."""
        view = memoryview(buffer)
        begin, self._place = self._place, self._place + len(view)
        count = self._try(lambda: self._get(begin, view), 0)
        view[count:] = bytes(len(view) - count)
        for at, data in self._kept:
            low, high = max(at, begin), min(at + len(data), self._place)
            if low < high:
                view[low - begin : high - begin] = data[low - at : high - at]
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._place = offset + (self._length() if whence == os.SEEK_END else 0)
        return self._place

    def tell(self) -> int:
        """Return the place in hand."""
        return self._place

    def truncate(self, size: int) -> int:
        """Cut the file off, or lengthen it."""
        if self.fault is None:
            self._try(lambda: self._file.truncate(size), size)
        return size

    def flush(self) -> None:
        """Do nothing: Python holds nothing back."""

    def sync(self) -> None:
        """Force everything to the disk."""
        self._try(lambda: os.fsync(self._file.fileno()), None)

    def close(self) -> None:
        """Close the file; what a disk refuses now it has refused before."""
        with suppress(OSError):
            self._file.close()

    def _put(self, begin: int, data: Any) -> None:
        self._file.seek(begin)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def _get(self, begin: int, view: memoryview) -> int:
        self._file.seek(begin)
        count = 0
        while count < len(view) and (more := self._file.readinto(view[count:])):
            count += more
        return count

    def _length(self) -> int:
        kept = (at + len(data) for at, data in self._kept)
        length: int = self._try(lambda: self._file.seek(0, os.SEEK_END), 0)
        return max(length, *kept, 0)

    def _try(self, action: Any, otherwise: Any) -> Any:
        try:
            return action()
        except BaseException as error:  # Ctrl-C inside a call from HDF5 would be lost
            self.fault = self.fault or error
            return otherwise


@dataclass(frozen=True)
class Writing:
    """An HDF5 file that is being written."""

    hdf5: h5py.File
    sink: Sink

    def check(self) -> None:
        """Raise what went wrong so far; call it now and then, for the rest is kept in memory."""
        if self.sink.fault is not None:
            raise self.sink.fault


@contextmanager
def writing_hdf5(path: Path, mode: Literal["w", "r+"] = "w", **settings: Any) -> Iterator[Writing]:
    """Open an HDF5 file for writing, in its own place.

    Parameters
    ----------
    path : Path
    mode : "w" for a new file, in the place of any other, or "r+"
    settings : as `h5py.File` takes them

    Raises
    ------
    OSError
        If the disk refuses, at the end of the block; the file is incomplete then.
    """
    sink = Sink(FileIO(path, "wb+" if mode == "w" else "rb+"))
    try:
        with h5py.File(sink, mode, **settings) as file:
            writing = Writing(file, sink)
            yield writing
    finally:
        sink.close()
    writing.check()
