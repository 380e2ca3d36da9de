import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytodino.errors import EngineError
from cytodino_bench import end_to_end
from cytodino_bench.end_to_end import compare_end_to_end
from cytodino_bench.plain_loop import read_crops, to_pixels
from cytodino_bench.programs import run_program
from tests.batch.tiny_bundle import write_bundle


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    folder = tmp_path / "cells" / "LYT"
    folder.mkdir(parents=True)
    for index in range(11):
        Image.new("RGB", (7, 6), (index, 20, 30)).save(folder / f"{index:02}.png")
    return folder.parent


def pack(cells: Path, archive: Path, encoding: str) -> Path:
    run_program("cytodino", "pack", cells, archive, "--encoding", encoding)
    return archive


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_the_loop_reads_the_first_crops_of_an_archive(cells: Path, encoding: str) -> None:
    archive = pack(cells, cells.parent / "a.h5", encoding)
    batches = list(read_crops(archive, 10))
    assert [len(batch) for batch in batches] == [8, 2]
    reds = [one.getpixel((0, 0))[0] for batch in batches for one in batch]
    np.testing.assert_allclose(reds, range(10), atol=3)
    assert len([one for batch in read_crops(archive, 99) for one in batch]) == 11


def test_pixels_are_resized_and_normalised() -> None:
    mean, std = np.float32([0.5, 0.0, 0.0]), np.float32([0.25, 1.0, 1.0])
    picture = Image.new("RGB", (5, 9), (255, 51, 0))
    pixels = to_pixels([picture, picture], 4, mean, std)
    assert pixels.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(pixels[1, :, 2, 2], [2.0, 0.2, 0.0], atol=1e-6)


def test_speeds_are_of_the_same_archive(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    bundle = write_bundle(cells.parent / "bundle")
    speeds = iter([2.0, 4.0])
    monkeypatch.setattr(end_to_end, "_loop", lambda *_: next(speeds))
    archive = pack(cells, cells.parent / "a.h5", "raw")
    found = compare_end_to_end(cells.parent, bundle, archive, plain_crops=5)
    assert found.failure is None
    assert (found.archive, found.crops, found.crops_plain, found.plain) == ("a.h5", 11, 5, 3.0)
    assert found.classify is not None
    assert found.ratio == pytest.approx(found.classify / 3.0)


def test_what_fails_is_said(tmp_path: Path) -> None:
    found = compare_end_to_end(tmp_path, tmp_path, tmp_path / "absent.h5", plain_crops=5)
    assert found.ratio is None
    assert found.failure is not None
    assert "the plain loop ended with 1" in found.failure


def test_a_program_that_fails_says_what_it_said_last(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cytodino pack ended with 2: .*does not exist"):
        run_program("cytodino", "pack", tmp_path / "absent", tmp_path / "a.h5")
    run_program("cytodino", "pack", tmp_path / "absent", tmp_path / "a.h5", accept=(2,))


def test_a_loop_that_ends_with_its_first_batch_is_no_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], 0, stdout="0.0\n", stderr="")
    monkeypatch.setattr(end_to_end.subprocess, "run", lambda *_, **__: done)
    found = compare_end_to_end(tmp_path, tmp_path, tmp_path / "a.h5", plain_crops=16)
    assert found.ratio is None
    assert found.failure is not None
    assert "no more than 8 crops" in found.failure
