"""The layouts that are read, tried in order.

A layout knows where the pixels of a row are and how to get them; labels, ids and the rest are the
reader's. To read another tool's archives, add its class here.
"""

from pathlib import Path

import h5py

from cytodino.archive.encoded import EncodedLayout
from cytodino.archive.hdf5 import describe_datasets, reading
from cytodino.archive.layout import Layout
from cytodino.archive.raw import RawLayout
from cytodino.errors import ArchiveError

LAYOUTS: tuple[type[Layout], ...] = (EncodedLayout, RawLayout)


def find_layout(file: h5py.File, path: Path) -> Layout:
    """Find out how an open file holds its crops.

    Raises
    ------
    ArchiveError
        If no layout fits, or the one that does is broken or of a newer version.
    """
    for layout in LAYOUTS:
        found = layout.find(file, path)
        if found is not None:
            return found
    with reading(path, "its contents"):
        has = describe_datasets(file)
    raise ArchiveError(
        f"holds no crops in a layout known here; it holds {has}",
        where=path,
        mend="write archives with cytodino pack",
    )
