"""What datasets a file holds, for finding the crops and for saying what was found instead."""

from pathlib import Path

import h5py

from cytodino.archive.hdf5 import reading
from cytodino.errors import ArchiveError

MAX_OBJECTS = 10_000
"""Groups and datasets that are looked at; a file of more needs the name of the crops."""

SHOWN = 12
"""Datasets that an error lists."""


def list_datasets(file: h5py.File, path: Path) -> list[h5py.Dataset]:
    """Return the datasets of a file, those in groups too; links are not followed.

    Raises
    ------
    ArchiveError
        If the file is damaged, or holds more than `MAX_OBJECTS`.
    """
    found: list[h5py.Dataset] = []
    seen = 0

    def add(_name: str, item: h5py.HLObject) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Dataset):
            found.append(item)
        return True if seen > MAX_OBJECTS else None  # True ends the visit

    with reading(path, "its contents"):
        file.visititems(add)
    if seen > MAX_OBJECTS:
        raise ArchiveError(
            f"holds more than {MAX_OBJECTS} groups and datasets",
            where=path,
            mend="name the dataset of the crops: --dataset NAME",
        )
    return found


def list_links(file: h5py.File, path: Path) -> list[str]:
    """Return the names that are links to somewhere else, in this file or another."""
    found: list[str] = []

    def add(name: str, link: object) -> None:
        if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
            found.append(name)

    with reading(path, "its contents"):
        file.visititems_links(add)
    return found


def describe(datasets: list[h5py.Dataset]) -> str:
    """List datasets with type and shape."""
    if not datasets:
        return "no dataset"
    names = [f"{item.name} {item.dtype} {item.shape}" for item in datasets[:SHOWN]]
    return ", ".join(names) + (" and more" if len(datasets) > SHOWN else "")
