"""Names alone do not tell whose a cell is: every synthetic set has the same."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cytodino.archive.packing import pack
from cytodino.cell_index import now_ns, write_index
from cytodino.cells import open_cells
from cytodino.images import checksum
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


@pytest.mark.parametrize("quality", [95, 75])
def test_a_cell_that_was_saved_again_is_no_stranger(run, images, tmp_path, quality):
    """Smooth, as cells are: JPEG changes it little."""
    other = tmp_path / "other"
    ramp = np.add.outer(np.arange(40), np.arange(40))[:, :, None] + np.array([0, 60, 120])
    for folder, kind in ((images, "PNG"), (other, "JPEG")):
        (folder / "BLA").mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(ramp.astype(np.uint8))
        picture.save(folder / "BLA/0.png", kind, quality=quality)
    run.manifest.data.fingerprint = open_cells(images).fingerprint()
    assert parts_in(run, open_cells(other)).tolist() == ["train"]


def test_which_it_went_by_is_said(run, images, tmp_path, capsys):
    source = open_cells(draw(tmp_path / "other", 1))
    parts_in(run, source)
    parts_in(run, source)
    assert capsys.readouterr().err.count("10 cells of") == 1
    shutil.rmtree(images)
    parts_in(run, open_cells(tmp_path / "other"))
    assert "told by name alone" in capsys.readouterr().err


def test_a_cell_that_nobody_asks_for_need_not_be_readable(run, images, tmp_path):
    other = shutil.copytree(images, tmp_path / "other")
    (other / "BLA/new.png").symlink_to(tmp_path / "nowhere.png")
    assert parts_in(run, open_cells(other)).tolist() == [*OWN, STRANGER]


def rename(images, folder):
    """Copy images in reverse order, under other names."""
    (folder / "BLA").mkdir(parents=True)
    for number in range(10):
        shutil.copy(images / f"BLA/{number}.png", folder / f"BLA/copy-{9 - number}.png")
    return folder


@pytest.mark.parametrize("encoding", [None, "jpeg"])
def test_the_runs_own_cells_are_found_under_other_names(run, images, tmp_path, capsys, encoding):
    other = rename(images, tmp_path / "other")
    shutil.copy(draw(tmp_path / "third", 1) / "BLA/0.png", other / "BLA/new.png")
    if encoding is not None:
        pack(other, tmp_path / "other.h5", encoding=encoding)
        other = tmp_path / "other.h5"
    assert parts_in(run, open_cells(other)).tolist() == [*OWN[::-1], STRANGER]
    assert "10 cells of" in capsys.readouterr().err


def test_names_that_were_exchanged_do_not_mislead(run, images, tmp_path, capsys):
    other = shutil.copytree(images, tmp_path / "other")
    shutil.copy(images / "BLA/4.png", other / "BLA/0.png")
    shutil.copy(images / "BLA/0.png", other / "BLA/4.png")
    expected = OWN.copy()
    expected[0], expected[4] = expected[4], expected[0]
    assert parts_in(run, open_cells(other)).tolist() == expected
    assert "has not seen" not in capsys.readouterr().err


def test_pixels_alone_are_found_where_they_are_remembered(run, images, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pack(rename(images, tmp_path / "other"), tmp_path / "other.h5", encoding="raw")
    assert set(parts_in(run, open_cells(tmp_path / "other.h5"))) == {STRANGER}
    own = open_cells(images)
    pixels = np.array([checksum(own.read(row)) for row in range(10)], dtype=np.uint32)
    stored = np.array(list(own.checksums()), dtype=np.uint32)
    write_index(own, own.stamps(), stored, pixels, now_ns() + 10**10)  # as a training does
    assert parts_in(run, open_cells(tmp_path / "other.h5")).tolist() == OWN[::-1]


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
