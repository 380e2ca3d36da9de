"""A folder beside the one to be written, which is gone in the end unless it was renamed."""

import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cytodino.errors import ExportError
from cytodino.locking import try_lock

__all__ = ["partial_folder"]

SUFFIX = ".partial"

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
    folder = out.parent / f"{_prefix(out)}{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except OSError as error:
        raise ExportError(
            f"cannot be written ({error.strerror})", where=out, mend="choose another --out"
        ) from error
    with suppress(OSError):  # a folder that may be written and not listed, say
        _remove_leftovers(out)
    lock = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _prefix(out: Path) -> str:
    """Begin the name with this host's: of another's, nobody here can tell whether it lives."""
    return f".{out.name}.{platform.node()}-"


def _remove_leftovers(out: Path) -> None:
    for left in out.parent.iterdir():
        if not (left.name.startswith(_prefix(out)) and left.name.endswith(SUFFIX)):
            continue
        with suppress(OSError):  # another's, or gone meanwhile
            if time.time() - left.stat().st_mtime > SETTLED_SECONDS:
                _remove_unlocked(left)


def _remove_unlocked(folder: Path) -> None:
    lock = _lock(folder)
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed; None where another has it, or none can be."""
    with ExitStack() as opened, suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        opened.callback(os.close, descriptor)
        if try_lock(descriptor):
            opened.pop_all()
            return descriptor
    return None
