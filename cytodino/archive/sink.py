"""HDF5 files written through Python, so that a disk that refuses ends in an error, not a crash."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import Any, Literal

import h5py


class Sink:
    """The file object that HDF5 writes to; it keeps the first failure to itself.

    HDF5 cannot close a file that it could not write, tries again when the process ends, and dies
    there. So it is told that all is well, and whoever writes asks for the failure.
    """

    def __init__(self, file: BufferedRandom) -> None:
        self._file = file
        self.fault: BaseException | None = None

    def write(self, data: Any) -> Any:
        """Write at the place in hand."""
        return self._try(lambda: self._file.write(data), len(data))

    def read(self, size: int = -1) -> Any:
        """Read at the place in hand."""
        return self._try(lambda: self._file.read(size), b"")

    def readinto(self, buffer: Any) -> Any:
        """Read at the place in hand, into a buffer."""
        return self._try(lambda: self._file.readinto(buffer), 0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> Any:
        """Go to a place."""
        return self._try(lambda: self._file.seek(offset, whence), offset)

    def tell(self) -> Any:
        """Return the place in hand."""
        return self._try(self._file.tell, 0)

    def truncate(self, size: int) -> Any:
        """Cut the file off, or lengthen it."""
        return self._try(lambda: self._file.truncate(size), size)

    def flush(self) -> Any:
        """Hand to the system what Python holds."""
        return self._try(self._file.flush, None)

    def sync(self) -> Any:
        """Force everything to the disk."""
        self.flush()
        return self._try(lambda: os.fsync(self._file.fileno()), None)

    def close(self) -> None:
        """Close the file; what a disk refuses now it has refused before."""
        with suppress(OSError):
            self._file.close()

    def _try(self, action: Any, otherwise: Any) -> Any:
        if self.fault is not None:
            return otherwise
        try:
            return action()
        except BaseException as error:  # Ctrl-C inside a call from HDF5 would be lost
            self.fault = error
            return otherwise


@contextmanager
def writing_hdf5(
    path: Path, mode: Literal["w", "r+"] = "w", **settings: Any
) -> Iterator[h5py.File]:
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
    sink = Sink(path.open("wb+" if mode == "w" else "rb+"))
    try:
        with h5py.File(sink, mode, **settings) as file:
            yield file
        sink.flush()
    finally:
        sink.close()
    if sink.fault is not None:
        raise sink.fault
