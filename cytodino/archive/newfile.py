"""A new HDF5 file that is there whole, or not at all."""

import os
from collections.abc import Callable
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py

from cytodino.errors import ArchiveError

LIBVER = ("v110", "v110")
"""Any HDF5 from 1.10 (2016) on reads it; its headers and indices carry checksums of their own."""


class NewFile:
    """Context manager around `hdf5`, written beside its place and renamed when it is whole.

    Whatever ends the block early, Ctrl-C too, leaves nothing behind.

    Raises
    ------
    ArchiveError
        If the target exists, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f"{path.name}.{os.getpid()}.partial")

    def __enter__(self) -> Self:
        refuse_existing(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = _Sink(self._partial.open("wb+"))
            self.hdf5 = h5py.File(self._sink, "w", libver=LIBVER)
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def check(self) -> None:
        """Raise what went wrong in writing so far; call it now and then."""
        fault = self._sink.fault
        if isinstance(fault, OSError):
            raise self._unwritable(fault) from fault
        if fault is not None:
            raise fault

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.hdf5.close()
            if kind is None:
                self._sink.sync()
                self.check()
                refuse_existing(self.path)
                os.replace(self._partial, self.path)
        except OSError as fault:
            raise self._unwritable(fault) from fault
        finally:
            with suppress(OSError):
                self._sink.close()
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> ArchiveError:
        return ArchiveError(
            f"cannot be written ({error.strerror or error})",
            where=self.path,
            mend="see that the folder may be written and has room",
        )


class _Sink:
    """The file object that HDF5 writes to; it keeps the first failure to itself.

    HDF5 cannot close a file that it could not write, tries again when the process ends, and dies
    there. So it is told that all is well, and `NewFile` asks for the failure.
    """

    def __init__(self, file: BufferedRandom) -> None:
        self._file = file
        self.fault: BaseException | None = None

    def write(self, data: Any) -> Any:
        return self._try(lambda: self._file.write(data), len(data))

    def read(self, size: int = -1) -> Any:
        return self._try(lambda: self._file.read(size), b"")

    def readinto(self, buffer: Any) -> Any:
        return self._try(lambda: self._file.readinto(buffer), 0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> Any:
        return self._try(lambda: self._file.seek(offset, whence), offset)

    def tell(self) -> Any:
        return self._try(self._file.tell, 0)

    def truncate(self, size: int) -> Any:
        return self._try(lambda: self._file.truncate(size), size)

    def flush(self) -> Any:
        return self._try(self._file.flush, None)

    def sync(self) -> Any:
        self.flush()
        return self._try(lambda: os.fsync(self._file.fileno()), None)

    def close(self) -> None:
        self._file.close()

    def _try(self, action: Callable[[], Any], otherwise: Any) -> Any:
        if self.fault is not None:
            return otherwise
        try:
            return action()
        except BaseException as error:  # Ctrl-C inside a call from HDF5 would be lost
            self.fault = error
            return otherwise


def refuse_existing(path: Path) -> None:
    """Raise `ArchiveError` if there is something at the path."""
    if path.exists() or path.is_symlink():
        raise ArchiveError("exists already", where=path, mend="choose another name or remove it")
