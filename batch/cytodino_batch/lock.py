"""One run at a time on one piece of work: a lock of the kernel's, which ends with its process."""

import os
import platform
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cytodino.errors import InputError
from cytodino.locking import try_lock

TRIES = 100
"""Times that a folder may be removed by another run while it is made for the lock."""

MAX_NOTE = 200
"""Bytes that are read of what a holder wrote about itself."""


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold a lock file for as long as the block runs; its folder is made, and removed if empty.

    The lock is the kernel's (`flock`), not the file's being there: a file that was left behind by
    a process that was killed locks nobody out. Windows is written for (`msvcrt.locking`), and
    untested.

    Raises
    ------
    InputError
        If another process, or another place in this one, holds it.
    OSError
        If the file cannot be made, or its file system knows no locks.
    """
    made = [level for level in (path.parent, *path.parent.parents) if not level.exists()]
    held = _acquire(path)
    try:
        yield
    finally:
        if sys.platform == "win32":  # an open file cannot be removed there
            os.close(held)
            with suppress(OSError):
                path.unlink()
        else:
            # Removed while it is held: whoever opened it meanwhile sees that and opens another.
            path.unlink(missing_ok=True)
            os.close(held)
        for level in made:
            with suppress(OSError):  # not empty, or removed by another
                level.rmdir()


def _acquire(path: Path) -> int:
    tries = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # another run removed the empty folder, or none can be made here
            tries += 1
            if tries == TRIES:
                raise
            continue
        except FileExistsError:  # the same, between `mkdir` finding it and looking what it is
            tries += 1
            if tries == TRIES or _is_in_the_way(path.parent):
                raise
            continue
        try:
            if not _try_lock(file):
                raise InputError(
                    f"another run is at work here{_holder(file)}",
                    where=path.parent,
                    mend="wait for it, or choose another --out",
                )
            if _still_there(file, path):
                _write_note(file)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_in_the_way(folder: Path) -> bool:
    """Tell whether there is something else in a folder's place, by one look at it."""
    try:
        return not stat.S_ISDIR(folder.lstat().st_mode)
    except FileNotFoundError:
        return False


def _try_lock(file: int) -> bool:
    if sys.platform == "win32":
        import msvcrt

        # Far behind the note, which others shall be able to read.
        os.lseek(file, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    return try_lock(file)


def _still_there(file: int, path: Path) -> bool:
    """Tell whether the open file is the one under its name: a last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _write_note(file: int) -> None:
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, f"process {os.getpid()} on {platform.node()}\n".encode()[:MAX_NOTE])


def _holder(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    note = os.read(file, MAX_NOTE).decode("utf-8", "replace").strip()
    return f" ({note})" if note else ""
