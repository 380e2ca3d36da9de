"""A new HDF5 file that is there whole, or not at all."""

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py

from cytodino.archive.sink import Sink
from cytodino.errors import ArchiveError
from cytodino.locking import try_lock

LIBVER = ("v110", "v110")
"""Any HDF5 from 1.10 (2016) on reads it; its headers and indices carry checksums of their own."""


class NewFile:
    """Context manager around `hdf5`, written beside its place and renamed when it is whole.

    Whatever ends the block early, Ctrl-C too, leaves nothing behind. Of a process that was
    killed, the next one to write the same file removes what it left.

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
            self._remove_leftovers()
            file = FileIO(self._partial, "wb+")
            with suppress(OSError):  # not every file system can; there, leftovers stay
                try_lock(file.fileno())
            self._sink = Sink(file)
            self.hdf5 = h5py.File(self._sink, "w", libver=LIBVER)
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def _remove_leftovers(self) -> None:
        """Remove what processes that were killed left beside the path."""
        prefix, suffix = f"{self.path.name}.", ".partial"
        for left in self.path.parent.iterdir():
            if not (left.name.startswith(prefix) and left.name.endswith(suffix)):
                continue
            if not left.name[len(prefix) : -len(suffix)].isdecimal():
                continue
            with suppress(OSError), left.open("rb+") as file:
                if try_lock(file.fileno()):  # not while the one who writes it lives
                    left.unlink()

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
            self._sink.close()
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> ArchiveError:
        return ArchiveError(
            f"cannot be written ({error.strerror or error})",
            where=self.path,
            mend="see that the folder may be written and has room",
        )


def refuse_existing(path: Path) -> None:
    """Raise `ArchiveError` if there is something at the path."""
    if path.exists() or path.is_symlink():
        raise ArchiveError("exists already", where=path, mend="choose another name or remove it")
