"""A folder beside the one to be written, which is gone in the end unless it was renamed."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytodino.errors import ExportError

__all__ = ["partial_folder"]

SETTLED_SECONDS = 60.0
"""A younger folder may be one whose process has not locked it yet."""


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out`; what an export that was killed left there goes first.

    Raises
    ------
    ExportError
        If it cannot be made.
    """
    folder = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        folder.mkdir()
    except OSError as error:
        raise ExportError(
            f"cannot be written ({error.strerror})", where=out, mend="choose another --out"
        ) from error
    lock = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _remove_leftovers(out: Path) -> None:
    prefix, suffix = f".{out.name}.", ".partial"
    for left in out.parent.iterdir():
        if not (left.name.startswith(prefix) and left.name.endswith(suffix) and left.is_dir()):
            continue
        process = left.name[len(prefix) : -len(suffix)]
        if not process.isdecimal() or time.time() - left.stat().st_mtime < SETTLED_SECONDS:
            continue
        lock = _lock(left)
        if lock is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed; None where another has it, or none can be."""
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
