"""The hash of an archive, computed beside the work on it."""

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from cytodino.archive.hdf5 import changed
from cytodino.paths import Stamp, stamp_of
from cytodino_batch import digest_process

AT_ONCE_BYTES = 32 << 20
"""Shorter files are hashed when it is asked for, in the 20 ms that a process takes to start."""


class FileDigest:
    """SHA-256 of a file, of which a long one is read by a process of its own.

    A core hashes some 8,000 crops of 250 x 250 pixels a second, which one after the other with
    a GPU that classifies 3,000 would cost a third of its time. A thread would hold up the one that
    reads crops, by the interpreter's lock.

    Parameters
    ----------
    path : Path
    opened : Stamp, optional
        Of the file that is worked on: another under its name, or a change before the hash is
        there, is an error.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """

    def __init__(self, path: Path, opened: Stamp | None = None) -> None:
        self._path, self._opened = path, opened
        self._file = path.open("rb", buffering=0)
        self._process: subprocess.Popen[str] | None = None
        if stamp_of(self._file.fileno())[2] > AT_ONCE_BYTES:
            with suppress(OSError):  # no process to be had: it is done without, as a killed one is
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", digest_process.__file__, str(os.getpid())],
                    stdin=self._file,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )

    @property
    def ready(self) -> bool:
        """Tell whether no process is at it any more; `result` may still read a short file."""
        return self._process is None or self._process.poll() is not None

    def result(self) -> str:
        """Return the hash in hex, when it is there.

        Raises
        ------
        OSError
            If the file cannot be read.
        ArchiveError
            If it is not the one that was opened, or was changed since.
        """
        return self._found

    @cached_property
    def _found(self) -> str:
        found = "" if self._process is None else self._process.communicate()[0]
        if self._process is None or self._process.returncode:
            # Short; or the process was killed, or met an error, which is raised here.
            self._file.seek(0)
            found = hashlib.file_digest(self._file, "sha256").hexdigest()
        if self._opened not in (None, stamp_of(self._file.fileno())):
            raise changed(self._path)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._process is not None:
            with self._process as process:  # closes its pipe and waits for its end
                process.kill()
