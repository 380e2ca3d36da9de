"""The layouts that are read, tried in order.

A layout knows where the pixels of a row are and how to get them; labels, ids and the rest are the
reader's. To read another tool's archives, add its class here.
"""

from collections.abc import Callable
from pathlib import Path

import h5py

from cytodino.archive.encoded import EncodedLayout
from cytodino.archive.layout import Layout
from cytodino.archive.options import NO_OPTIONS, ReadOptions
from cytodino.archive.pathml import PathmlLayout
from cytodino.archive.plain import find_plain
from cytodino.archive.published import ClamLayout, PatchCamelyonLayout
from cytodino.archive.raw import RawLayout
from cytodino.archive.scportrait import ScPortraitLayout
from cytodino.errors import ArchiveError

Find = Callable[[h5py.File, Path, ReadOptions], Layout | None]
"""Returns the layout if the file is of its kind, or None if it is of another; raises
`ArchiveError` if it is of its kind, and broken."""

LAYOUTS: tuple[Find, ...] = (
    EncodedLayout.find,
    RawLayout.find,
    ScPortraitLayout.find,
    PathmlLayout.find,
    ClamLayout.find,
    PatchCamelyonLayout.find,
    find_plain,
)


def find_layout(file: h5py.File, path: Path, options: ReadOptions = NO_OPTIONS) -> Layout:
    """Find out how an open file holds its crops.

    Raises
    ------
    ArchiveError
        If no layout fits, the one that does is broken or of a newer version, or the options
        contradict the file.
    """
    tried = (find(file, path, options) for find in LAYOUTS)
    found = next(layout for layout in tried if layout is not None)
    if options.layout not in (None, found.stored_as):
        raise ArchiveError(
            f"is a {found.name} archive, which stores crops as {found.stored_as}, "
            f"not as {options.layout}",
            where=path,
            mend="leave out --layout",
        )
    return found
