"""Paths and names as text that JSON, CSV and HDF5 can hold."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

__all__ = ["PrintableText", "printable"]


def printable(name: Path | str) -> str:
    r"""Return a name with what is no UTF-8 in it, or a NUL, written as an escape.

    File names need not be UTF-8, and no file of results can hold what Python makes of the rest:
    a night's work would end in an error about text. A name without either comes back as it is.
    """
    return str(name).replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


PrintableText = Annotated[str, BeforeValidator(printable)]
"""A field that takes a path or name as it is and holds it printable."""
