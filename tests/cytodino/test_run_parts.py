"""Names alone do not tell whose a cell is: every synthetic set has the same."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cytodino.archive.packing import pack
from cytodino.cells import open_cells
from cytodino.run_parts import STRANGER, parts_in

PARTS = ("train", "train", "validation", "calibration", "test")


def draw(folder, seed):
    generator = np.random.default_rng(seed)
    (folder / "BLA").mkdir(parents=True)
    for number in range(10):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "BLA" / f"{number}.png")
    return folder


@pytest.fixture
def images(tmp_path):
    return draw(tmp_path / "images", 0)


@pytest.fixture
def run(images, tmp_path):
    cells = open_cells(images)
    split = {part: [] for part in PARTS}
    for row, name in enumerate(cells.ids):
        split[PARTS[row % 5]].append(name)
    data = SimpleNamespace(path=str(images), fingerprint=cells.fingerprint())
    return SimpleNamespace(path=tmp_path / "run", split=split, manifest=SimpleNamespace(data=data))


OWN = [PARTS[row % 5] for row in range(10)]


def test_the_runs_own_cells_are_in_their_parts(run, images):
    assert parts_in(run, open_cells(images)).tolist() == OWN


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_so_are_the_same_cells_in_an_archive(run, images, tmp_path, encoding):
    pack(images, tmp_path / "a.h5", encoding=encoding)
    assert parts_in(run, open_cells(tmp_path / "a.h5")).tolist() == OWN


def test_others_of_the_same_names_are_strangers(run, tmp_path):
    other = draw(tmp_path / "other", 1)
    shutil.copy(tmp_path / "images/BLA/3.png", other / "BLA/3.png")
    parts = parts_in(run, open_cells(other)).tolist()
    assert parts == [STRANGER] * 3 + ["calibration"] + [STRANGER] * 6


def test_other_names_are_strangers(run, tmp_path):
    other = draw(tmp_path / "other", 1)
    (other / "BLA/4.png").rename(other / "BLA/new.png")
    assert parts_in(run, open_cells(other))[-1] == STRANGER


@pytest.mark.parametrize("gone", ["gone", "changed", "never there"])
def test_where_the_runs_own_cells_are_gone_the_name_tells(run, images, tmp_path, gone):
    other = draw(tmp_path / "other", 1)
    if gone == "gone":
        shutil.rmtree(images)
    elif gone == "changed":
        shutil.copy(other / "BLA/0.png", images / "BLA/1.png")
    else:
        run.manifest.data = None
    assert parts_in(run, open_cells(other)).tolist() == OWN


def test_a_cell_that_cannot_be_read_keeps_its_part(run, images, tmp_path):
    other = shutil.copytree(images, tmp_path / "other")
    (other / "BLA/2.png").write_bytes((images / "BLA/2.png").read_bytes()[:60])
    assert parts_in(run, open_cells(other)).tolist() == OWN


def test_cells_are_compared_once_whatever_the_division(run, tmp_path):
    source = open_cells(draw(tmp_path / "other", 1))
    assert set(parts_in(run, source)) == {STRANGER}
    shutil.rmtree(tmp_path / "other")
    run.split = {"train": source.ids}
    assert set(parts_in(run, source)) == {STRANGER}
