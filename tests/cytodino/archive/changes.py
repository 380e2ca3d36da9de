"""Changing archives by hand, and what has to come of it."""

import h5py
import hdf5plugin  # noqa: F401 - registers its filters before a test hides one
import pytest

from cytodino.archive import open_archive
from cytodino.errors import ArchiveError


def replace(path, name, data, **options):
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        if data is not None:
            file.create_dataset(name, data=data, **options)


def edit(path, name, change):
    with h5py.File(path, "r+") as file:
        values = file[name][:]
        change(values)
        file[name][...] = values


def flip(path, data):
    """Change one bit of the only place in a file where these bytes stand."""
    content = bytearray(path.read_bytes())
    at = content.find(data)
    assert at >= 0
    content[at + len(data) // 2] ^= 4
    path.write_bytes(bytes(content))


def refused(path, match):
    with pytest.raises(ArchiveError, match=match) as caught, open_archive(path) as opened:
        _ = opened.ids, opened.labels, opened.coords
    assert str(path) in str(caught.value)
    return caught.value
