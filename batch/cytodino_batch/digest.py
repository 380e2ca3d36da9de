"""The hash of an archive, computed beside the work on it."""

import hashlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from cytodino.archive.hdf5 import changed
from cytodino.errors import ArchiveError
from cytodino.paths import Stamp, stamp_of

BUFFER_BYTES = 8 << 20
"""Read into one buffer again and again: a fifth less time than new bytes each time; a smaller one
has to wait for the interpreter's lock more often than it gains in the cache."""

AT_ONCE_BYTES = 32 << 20
"""Shorter files are hashed before anything else: it takes some 20 ms."""


class FileDigest:
    """SHA-256 of a file, of which a long one is read by a thread of its own.

    A core hashes about 7,500 crops of 250 x 250 pixels a second, which one after the other with
    a GPU that classifies 3,000 would cost a third of its time.

    Parameters
    ----------
    path : Path
    opened : Stamp, optional
        Of the file that is worked on: another under its name, or a change before the hash is
        there, is an error.
    """

    def __init__(self, path: Path, opened: Stamp | None = None) -> None:
        self._path, self._opened = path, opened
        self._digest = hashlib.sha256()
        self._error: OSError | ArchiveError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
        if path.stat().st_size <= AT_ONCE_BYTES:
            self._run()
        else:
            self._thread.start()

    @property
    def ready(self) -> bool:
        """Tell whether `result` answers at once."""
        return not self._thread.is_alive()

    def result(self) -> str:
        """Return the hash in hex, when it is there.

        Raises
        ------
        OSError
            If the file cannot be read.
        ArchiveError
            If it is not the one that was opened, or was changed since.
        """
        if self._thread.is_alive():
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()

    def _run(self) -> None:
        try:
            buffer = memoryview(bytearray(BUFFER_BYTES))
            with self._path.open("rb", buffering=0) as file:
                while not self._stop.is_set() and (count := file.readinto(buffer)):
                    self._digest.update(buffer[:count])
                if self._opened not in (None, stamp_of(file.fileno())):
                    self._error = changed(self._path)
        except OSError as error:
            self._error = error
