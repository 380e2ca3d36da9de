import os
import zlib

import numpy as np
import pytest

from cytodino import cell_index
from cytodino.archive import write_archive
from cytodino.cells import MemoryCells, open_cells
from cytodino.errors import CropError, InputError
from cytodino.training.examination import read_all


@pytest.fixture
def settled(monkeypatch):
    """Let files that were written just now count as settled."""
    monkeypatch.setattr(cell_index, "SETTLED_NS", -10_000_000_000)


def test_every_image_is_read(images, listener):
    read_all(open_cells(images), listener)
    assert listener.tasks == [["checking images", 33, 33]]


def test_each_images_pixels_have_a_checksum(images, listener):
    cells = open_cells(images)
    checksums = read_all(cells, listener)
    assert checksums.dtype == np.uint32
    assert checksums.tolist() == [zlib.crc32(cells.read(row).tobytes()) for row in range(33)]


def test_an_image_that_cannot_be_read_is_named(images, listener):
    path = images / "EOS" / "EOS_03.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(CropError, match="EOS_03.png"):
        read_all(open_cells(images), listener)


def test_several_are_counted_and_the_first_is_named(images, listener):
    for name in ("EOS_03.png", "EOS_07.png"):
        (images / "EOS" / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"2 of 33 images cannot be used; first, .*EOS_03\.png"):
        read_all(open_cells(images), listener)


@pytest.fixture(params=["folder", "archive"])
def path(request, images, tmp_path):
    if request.param == "folder":
        return images
    write_archive(tmp_path / "cells.h5", open_cells(images), encoding="jpeg")
    return tmp_path / "cells.h5"


def test_what_was_read_before_is_not_read_again(path, listener, settled, monkeypatch):
    first = read_all(open_cells(path), listener)
    fingerprint = open_cells(path).fingerprint()

    def refuse(self, index):
        raise AssertionError("was read again")

    cells = open_cells(path)
    monkeypatch.setattr(type(cells), "read", refuse)
    if path.is_dir():
        monkeypatch.setattr(type(cells), "encoded", refuse)
    listener.tasks.clear()
    assert read_all(cells, listener).tolist() == first.tolist()
    assert listener.tasks == []
    assert cells.fingerprint() == fingerprint


def test_what_changed_came_or_went_is_read(images, listener, settled):
    read_all(open_cells(images), listener)
    changed, gone, new = (images / "EOS" / f"EOS_0{n}.png" for n in (1, 2, 3))
    status = changed.stat()
    content = (images / "LYT" / "LYT_02.png").read_bytes()
    changed.write_bytes(content.ljust(status.st_size, b"\0"))  # as long as before
    assert changed.stat().st_size == status.st_size
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))  # who would hide it
    new.rename(images / "EOS" / "EOS_99.png")
    gone.unlink()
    cells = open_cells(images)
    listener.tasks.clear()
    found = read_all(cells, listener)
    assert listener.tasks == [["checking images", 2, 2]]
    assert found.tolist() == [zlib.crc32(cells.read(row).tobytes()) for row in range(len(cells))]
    assert found[cells.ids.index("EOS/EOS_01.png")] == found[cells.ids.index("LYT/LYT_02.png")]


def test_files_that_may_still_change_are_not_remembered(images, listener):
    read_all(open_cells(images), listener)
    assert not cell_index.index_path(images).exists()


def test_an_index_that_cannot_be_used_is_read_past(images, listener, settled, monkeypatch):
    first = read_all(open_cells(images), listener)
    path = cell_index.index_path(images)
    whole = path.read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert not cell_index.read_index(open_cells(images)).known.any()
    assert read_all(open_cells(images), listener).tolist() == first.tolist()
    assert cell_index.read_index(open_cells(images)).known.all()
    monkeypatch.setattr(cell_index, "VERSION", 2)
    assert not cell_index.read_index(open_cells(images)).known.any()


def test_a_cache_that_cannot_be_written_is_said(images, listener, settled, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    read_all(open_cells(images), listener)
    assert "is not remembered (" in listener.said[0]


def test_cells_without_files_are_read_each_time(listener):
    cells = MemoryCells([np.zeros((2, 2, 3), np.uint8)] * 2)
    for _ in range(2):
        read_all(cells, listener)
    assert len(listener.tasks) == 2
