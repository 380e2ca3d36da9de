"""Archives in the layouts of other tools, written and read back."""

import h5py
import pytest

from cytodino.archive import ReadOptions, open_archive
from cytodino.errors import ArchiveError

from .published import WRITERS, decode, draw_jpegs

N = 12
FILES = draw_jpegs(N)
CROPS = decode(FILES)


def write(path, writer):
    WRITERS[writer](path, CROPS, FILES)
    return path


def put(path, **datasets):
    with h5py.File(path, "a") as file:
        for name, data in datasets.items():
            file[name.replace("__", "/")] = data
    return path


def read(path, **options):
    with open_archive(path, options=ReadOptions(**options)) as archive:
        return archive.read(0, archive.n)


def refused(path, match, **options):
    with pytest.raises(ArchiveError, match=match) as caught:
        open_archive(path, options=ReadOptions(**options))
    return str(caught.value)
