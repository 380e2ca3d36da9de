"""Paths as text that JSON, CSV and HDF5 can hold, and folders that appear when they are whole."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

__all__ = ["PrintableText", "Stamp", "hash_file", "printable", "stamp_of", "whole_folder"]

Stamp = tuple[int, int, int, int]
"""Device, inode, bytes, and nanoseconds of the last change."""


def printable(name: Path | str) -> str:
    r"""Return a name with what is no UTF-8 in it, or a NUL, written as an escape.

    File names need not be UTF-8, and no file of results can hold what Python makes of the rest:
    a night's work would end in an error about text. A name without either comes back as it is.
    """
    text = str(name)
    if text.isascii() and "\0" not in text:  # as nearly all are, of which there may be many
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


PrintableText = Annotated[str, BeforeValidator(printable)]
"""A field that takes a path or name as it is and holds it printable."""


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex, read in chunks.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_of(descriptor: int) -> Stamp:
    """Return what tells whether an open file is another one, or was written to, than before."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to fill, and put what is in it at ``out`` if the block ends well.

    Parameters
    ----------
    out : Path
        New, or an empty folder. A new one is renamed into its place; into one that exists the
        files are moved, for somebody may stand in it, or it may be a mount.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    existed = out.is_dir()
    out.parent.mkdir(parents=True, exist_ok=True)
    place = out if existed else out.parent
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=place) as beside:
        whole = Path(beside) / "whole"
        whole.mkdir()  # with the rights of any new folder, unlike the one around it
        yield whole
        if not existed:
            whole.rename(out)
            return
        for entry in sorted(whole.iterdir()):
            entry.rename(out / entry.name)
