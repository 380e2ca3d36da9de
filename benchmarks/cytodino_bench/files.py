"""Results as files: written whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from cytodino.errors import InputError
from cytodino_bench.drawing import Drawing

__all__ = ["require_chart_name", "require_places", "write_chart", "write_text"]

PLACE = "name a file in a folder that exists and that you may write to"


def write_text(path: Path, content: str) -> None:
    """Write text, beside its place and then renamed.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    _write(path, content.encode())


def require_places(*paths: Path | None) -> None:
    """Refuse files that could not be written, before anything is measured for them.

    Raises
    ------
    InputError
        With the mend.
    """
    for path in paths:
        if path is not None and not os.access(path.parent, os.W_OK | os.X_OK):
            why = "is not to be written to" if path.parent.exists() else "is not there"
            raise InputError(f"cannot be written: its folder {why}", where=path, mend=PLACE)


def require_chart_name(path: Path) -> None:
    """Refuse a chart that is neither PNG nor SVG, before anything is measured for it.

    Raises
    ------
    InputError
        With the two endings.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise InputError("is no name of a chart", where=path, mend="end it in .png or .svg")


def write_chart(path: Path, drawing: Drawing) -> None:
    """Write a drawing as PNG or SVG, by the file's name.

    Raises
    ------
    InputError
        If the name ends in neither, or the file cannot be written.
    """
    require_chart_name(path)
    _write(path, drawing.png() if path.suffix.lower() == ".png" else drawing.svg().encode())


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):  # of a name too long not even that
            beside.unlink(missing_ok=True)
        raise InputError(
            f"cannot be written ({error.strerror})",
            where=path,
            mend=PLACE,
        ) from error
