"""Damage from a seed: every row is right, or listed as lost, or the whole archive is refused."""

import numpy as np
import pytest

from cytodino.archive import open_archive, write_archive
from cytodino.cells import MemoryCells
from cytodino.errors import CropError, InputError

from .conftest import draw

N = 12
CROPS = [draw(16, 16, seed) for seed in range(N)]


def flip_bit(content, rng):
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))


def flip_bits(content, rng):
    for _ in range(20):
        flip_bit(content, rng)


def edit_header(content, rng):
    at = int(rng.integers(2000))
    content[at : at + 8] = rng.integers(0, 256, 8, dtype=np.uint8).tobytes()


def blank(content, rng):
    at = int(rng.integers(len(content) - 64))
    content[at : at + 64] = bytes(64)


def truncate(content, rng):
    del content[int(rng.integers(len(content))) :]


@pytest.mark.parametrize("damage", [flip_bit, flip_bits, edit_header, blank, truncate])
def test_no_wrong_pixel_label_or_id_is_taken(tmp_path, encoding, damage):
    path = tmp_path / "a.h5"
    write_archive(path, MemoryCells(CROPS, labels=range(N)), encoding=encoding)
    whole = path.read_bytes()
    outcomes = set()
    for seed in range(40):
        content = bytearray(whole)
        damage(content, np.random.default_rng(seed))
        path.write_bytes(bytes(content))
        try:
            with open_archive(path) as opened:
                rows = opened.read(0, opened.n)
                assert len(rows) == N
                assert opened.ids == [str(row) for row in range(N)]
                assert opened.labels is None or opened.labels.tolist() == list(range(N))
        except InputError:
            outcomes.add("refused")
            continue
        for row, crop in enumerate(rows):
            if isinstance(crop, CropError):
                outcomes.add("row lost")
                assert crop.row == row
            else:
                np.testing.assert_array_equal(crop, CROPS[row])
    assert outcomes
