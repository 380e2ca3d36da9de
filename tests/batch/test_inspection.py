import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cytodino_batch.cli import main

from .conftest import draw_crops, write_crops


def inspect(*args: object):
    return CliRunner().invoke(main, ["inspect", *map(str, args)])


@pytest.fixture
def archive(tmp_path) -> Path:
    crops = draw_crops(150)
    path = write_crops(tmp_path / "a.h5", crops, damaged=[4], coords=np.zeros((150, 2), int))
    with h5py.File(path, "r+") as file:
        file["labels"] = np.array([3] * 100 + [-1] * 50)
    return path


def test_every_fact_has_a_line(archive):
    result = inspect(archive)
    assert result.exit_code == 0
    facts = {line[:14].strip(): line[15:] for line in result.stdout.splitlines()}
    assert facts["layout"] == "cytodino encoded, image files in /bytes"
    assert facts["crops"] == "150"
    assert "12 x 12 px" in facts["sizes"]
    assert facts["slide"] == "S-7"
    assert facts["channel order"] == "rgb"
    assert facts["filters"] == "none"
    assert facts["checksums"] == "one a row"
    assert facts["tables"] == "coords"
    assert facts["labels"] == "BLA 100, without 50"
    assert "crops/s" in facts["reads at"]
    assert facts["unusable"] == "1 of 150 crops that were read"
    assert "  row 4: " in result.stdout


def test_many_sizes_are_counted_not_listed(tmp_path):
    crops = [np.zeros((5 + size, 8, 3), np.uint8) for size in range(13)]
    result = inspect(write_crops(tmp_path / "a.h5", crops))
    assert " and 3 more" in result.stdout
    assert "labels         none" in result.stdout
    assert "tables         none" in result.stdout


def test_json_is_for_programs(archive, tmp_path):
    result = inspect(archive, "--json", "--sheet", tmp_path / "sheet.png")
    found = json.loads(result.stdout)
    assert found["n"] == 150
    assert found["labels"] == {"BLA": 100}
    assert list(found["unusable"]) == ["4"]


def test_the_contact_sheet_is_a_picture(archive, tmp_path):
    sheet = tmp_path / "new" / "sheet.png"
    result = inspect(archive, "--sheet", sheet)
    assert result.exit_code == 0
    assert f"contact sheet: {sheet}" in result.stderr
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
        assert picture.width > 5 * 20
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.png"]


def test_a_sheet_takes_the_place_of_nothing(archive):
    before = archive.read_bytes()
    result = inspect(archive, "--sheet", archive)
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert archive.read_bytes() == before


def test_a_sheet_that_cannot_be_written_is_one_line(archive):
    result = inspect(archive, "--sheet", archive / "sheet.png")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"), [(b"text", "is not an HDF5 file"), (None, "truncated")]
)
def test_a_damaged_archive_is_one_line_and_exit_1(archive, tmp_path, content, says):
    bad = tmp_path / "bad.h5"
    bad.write_bytes(archive.read_bytes()[:3000] if content is None else content)
    result = inspect(bad)
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_what_was_assumed_and_cannot_be_checked_is_said_aloud(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cells"] = np.zeros((4, 5, 6, 3), np.uint8)
    result = inspect(tmp_path / "a.h5")
    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("warning: nothing in the file says the channel order")
    assert "checksums      none: " in result.stdout
    assert "layout         pixels, uint8 pixels in /cells" in result.stdout
    assert inspect(tmp_path / "a.h5", "--channel-order", "rgb").stderr == ""


def test_the_options_settle_what_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.ones((4, 3, 6, 3), np.uint8)
        file["b"] = np.ones((9, 8, 7, 3), np.uint8)
        file["kind"] = ["BLA"] * 4
        file["name"] = ["x"] * 4
    result = inspect(tmp_path / "a.h5")
    assert result.exit_code == 1
    assert "--dataset NAME" in result.stderr
    options = "--dataset a --layout nchw --channel-order bgr --labels kind --ids name"
    sheet = tmp_path / "sheet.png"
    found = json.loads(
        inspect(tmp_path / "a.h5", *options.split(), "--json", "--sheet", sheet).stdout
    )
    assert (found["sizes"], found["labels"]) == ({"3 x 6": 4}, {"BLA": 4})
    assert (found["channel_order"], found["ids"]) == ("bgr", True)
    assert sheet.exists()


def test_a_missing_archive_is_exit_2(tmp_path):
    assert inspect(tmp_path / "gone.h5").exit_code == 2


def test_inspecting_loads_no_engine_and_no_torch(archive):
    code = (
        "import sys\nfrom cytodino_batch.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\nsys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", str(archive)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert loaded.isdisjoint({"torch", "transformers", "onnx", "onnxruntime"})
    assert "h5py" in loaded


def test_the_installed_program_inspects(archive):
    program = Path(sys.executable).with_name("cytodino-batch")
    done = subprocess.run([program, "inspect", archive], capture_output=True, text=True, check=True)
    assert "crops          150" in done.stdout
