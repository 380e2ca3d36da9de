"""The archives that this project writes: their mark, their version, their checksums."""

from pathlib import Path

import h5py
import numpy as np

from cytodino.archive.channels import stated_order
from cytodino.archive.hdf5 import find_dataset, reading
from cytodino.archive.layout import Layout, check_length
from cytodino.archive.options import ReadOptions
from cytodino.errors import ArchiveError

FORMAT = "cytodino-archive"
VERSION = 1
"""The newest version of the format that is read here, and the one that is written."""

DAMAGED = "its bytes do not match their checksum"

CHECKSUMS = "crc32"
TABLES = {"ids": "ids", "labels": "labels", "coords": "coords"}


def own_dataset(
    file: h5py.File, path: Path, name: str, options: ReadOptions
) -> h5py.Dataset | None:
    """Return a dataset of an archive that this project wrote, or None of any other file.

    Raises
    ------
    ArchiveError
        If the archive is of a newer version, or the dataset is not in this very file.
    """
    if options.dataset is not None and options.dataset.strip("/") != name:
        return None
    with reading(path, "its format"):
        written_by = file.attrs.get("format")
        version = file.attrs.get("version")
    if written_by not in (FORMAT, FORMAT.encode()):
        return None
    if not isinstance(version, int | np.integer) or version < 1:
        raise ArchiveError(f"has the version {version}", where=path, mend="pack the images again")
    if version > VERSION:
        raise ArchiveError(
            f"is of version {version}, and {VERSION} is the newest known here",
            where=path,
            mend="upgrade: pip install -U cytodino",
        )
    return find_dataset(file, path, name)


def check_own(layout: Layout, options: ReadOptions) -> np.ndarray:
    """Refuse what `pack` would not have written; return the checksums, uint32 (n,)."""
    order = stated_order(layout.file, layout.payload, layout.path, options)
    if order not in (None, "rgb"):
        raise ArchiveError(
            f"has the channel order {order!r}",
            where=layout.path,
            mend="pack the images again; cytodino archives are rgb",
        )
    path, n = layout.path, layout.n
    dataset = find_dataset(layout.file, path, CHECKSUMS)
    if dataset is None or dataset.dtype != np.uint32 or dataset.shape != (n,):
        raise ArchiveError(
            f"has no /{CHECKSUMS} with one uint32 for each of its {n} crops",
            where=path,
            mend="pack the images again",
        )
    # Checksums hardly compress, so an honest table is shorter than the file.
    check_length(path, CHECKSUMS, n * 4)
    with reading(path, f"/{CHECKSUMS}"):
        return np.asarray(dataset[:])
