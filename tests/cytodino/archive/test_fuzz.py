"""Damage from a seed: every row is right, or listed as lost, or the whole archive is refused."""

from collections import Counter

import numpy as np
import pytest

from cytodino.archive import open_archive, write_archive
from cytodino.cells import MemoryCells
from cytodino.errors import CropError, InputError
from cytodino.images import checksum

from .conftest import draw
from .damage import DAMAGES, Reader, damage_file
from .published import WRITERS, decode, draw_jpegs

N = 12
CROPS = [draw(16, 16, seed) for seed in range(N)]

OURS = [name for name in WRITERS if name.startswith("own")]
THEIRS = [name for name in WRITERS if name not in OURS]

SECONDS = 60.0
"""That an archive may take; the probe gives up after ten."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_wrong_pixel_label_or_id_is_taken(tmp_path, encoding, damage):
    path = tmp_path / "a.h5"
    write_archive(path, MemoryCells(CROPS, labels=range(N)), encoding=encoding)
    whole = path.read_bytes()
    outcomes = set()
    for seed in range(40):
        content = bytearray(whole)
        DAMAGES[damage](content, np.random.default_rng(seed))
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


@pytest.mark.parametrize("archives", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_no_traceback_no_hang_and_nothing_lost_in_silence(tmp_path, archives):
    """Half of the archives are ours, with checksums; half are every other layout in turn."""
    files = draw_jpegs(N)
    crops = decode(files)
    right = [checksum(crop) for crop in crops]
    path = tmp_path / "a.h5"
    outcomes: Counter[str] = Counter()
    with Reader(SECONDS) as reader:
        for seed in range(archives):
            names = OURS if seed % 2 == 0 else THEIRS
            name = names[seed // 2 % len(names)]
            path.unlink(missing_ok=True)
            WRITERS[name](path, crops, files)
            what = f"{name}, {damage_file(path, seed)}, seed {seed}"
            answer = reader.read(path)
            assert answer.keys() <= {"refused", "n", "rows"}, f"{what}: {answer}"
            if "refused" in answer:
                assert "\n" not in answer["refused"], what
                outcomes["refused"] += 1
                continue
            rows = answer["rows"]
            assert len(rows) == answer["n"], what
            if names is OURS:
                assert answer["n"] == N, what
                assert all(row in (None, right[at]) for at, row in enumerate(rows)), what
            outcomes["rows lost" if None in rows else "whole or not checked"] += 1
    assert sum(outcomes.values()) == archives
    assert min(outcomes[kind] for kind in ("refused", "rows lost")) > 0
    print(dict(outcomes))
