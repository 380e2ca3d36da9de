import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import cytodino.run
from cytodino.archive import open_archive
from cytodino.commands.pack import pack
from cytodino.console import CommandGroup

main = CommandGroup("cytodino")
main.add_command(pack)

NAMES = ("BLA/a.png", "BLA/b.png", "EOS/deep/c.png", "NGS/d.png")


@pytest.fixture
def images(tmp_path):
    for seed, name in enumerate(NAMES):
        path = tmp_path / "slide" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "slide"


def call(*arguments):
    return CliRunner().invoke(main, ["pack", *map(str, arguments)])


def test_it_prints_the_path_and_says_what_it_chose(images, tmp_path):
    (images / "BLA" / "notes.txt").write_text("x")
    result = call(images, tmp_path / "a.h5")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'a.h5'}\n"
    assert "4 crops of 8 x 9 px, 4 labelled with 3 of the 21 classes" in result.stderr
    assert "encoding raw (pixels) because" in result.stderr
    assert "passed over 1 file that is no image" in result.stderr
    with open_archive(tmp_path / "a.h5") as opened:
        assert opened.ids == list(NAMES)
        assert opened.slide == "slide"


def test_raw_pixels_with_compression_and_a_name(images, tmp_path):
    result = call(
        images, tmp_path / "a.h5", "--encoding", "raw", "--compression", "gzip", "--slide", "S 1"
    )
    assert result.exit_code == 0, result.output
    assert "encoding raw (pixels compressed with gzip) as asked for" in result.stderr
    with open_archive(tmp_path / "a.h5") as opened:
        assert (opened.filters, opened.slide) == (("gzip",), "S 1")


def test_unlabelled_images_of_many_sizes(tmp_path):
    (tmp_path / "flat").mkdir()
    for size in range(4, 9):
        Image.new("RGB", (size, size)).save(tmp_path / "flat" / f"{size}.png")
    result = call(tmp_path / "flat", tmp_path / "a.h5")
    assert "5 crops of 4 x 4, 5 x 5, 6 x 6 px and 2 other sizes, unlabelled" in result.stderr
    assert "encoding jpeg (the files' own bytes) because the crops differ" in result.stderr


def test_jpeg_files_stay_as_they_are(images, tmp_path):
    Image.new("RGB", (8, 9)).save(images / "NGS" / "e.jpg")
    result = call(images, tmp_path / "a.h5")
    assert "encoding jpeg (the files' own bytes) because from a disk" in result.stderr
    with open_archive(tmp_path / "a.h5") as opened:
        assert opened.encoded(4) == (images / "NGS" / "e.jpg").read_bytes()


def test_a_compression_alone_is_of_pixels(images, tmp_path):
    result = call(images, tmp_path / "a.h5", "--compression", "zstd")
    assert "encoding raw (pixels compressed with zstd) for zstd" in result.stderr


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_an_archive_packed_again_is_written_as_its_crops_are_read_fastest(
    images, tmp_path, encoding
):
    assert call(images, tmp_path / "a.h5", "--encoding", encoding).exit_code == 0
    result = call(tmp_path / "a.h5", tmp_path / "b.h5")
    assert "encoding raw (pixels) because" in result.stderr


def test_an_archive_can_be_packed_again(images, tmp_path):
    assert call(images, tmp_path / "a.h5").exit_code == 0
    assert call(tmp_path / "a.h5", tmp_path / "b.h5", "--encoding", "raw").exit_code == 0
    with open_archive(tmp_path / "a.h5") as one, open_archive(tmp_path / "b.h5") as other:
        assert (one.ids, one.slide, one.labels.tolist()) == (
            other.ids,
            other.slide,
            other.labels.tolist(),
        )
        for pixels, again in zip(one.read(0, 4), other.read(0, 4), strict=True):
            np.testing.assert_array_equal(pixels, again)


def test_an_archive_that_says_little_of_itself_is_packed_as_it_is_said_to_be_read(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (4, 3, 9, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["in/cells"] = pixels.transpose(0, 3, 1, 2)[:, ::-1]
        file["masks"] = np.zeros((2, 4, 4, 3), np.uint8)
        file["kind"] = np.array([3, 0, 20, 3])
        file["name"] = np.array(["a", "b", "c", "d"], dtype=h5py.string_dtype())
    given = ["--dataset", "in/cells", "--layout", "nchw", "--channel-order", "bgr"]
    result = call(
        tmp_path / "foreign.h5", tmp_path / "a.h5", *given, "--labels", "kind", "--ids", "name"
    )
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    with open_archive(tmp_path / "a.h5") as opened:
        np.testing.assert_array_equal(np.stack(opened.read(0, 4)), pixels)
        assert (opened.labels.tolist(), opened.ids) == ([3, 0, 20, 3], ["a", "b", "c", "d"])


@pytest.mark.parametrize("option", [["--channel-order", "bgr"], ["--ids", "name"]])
def test_how_an_archive_is_read_is_nothing_to_say_of_a_folder(images, tmp_path, option):
    result = call(images, tmp_path / "a.h5", *option)
    assert result.exit_code == 1
    assert f"{images}: is a folder of images, and {option[0]} is for archives" in result.stderr
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        ("png", {}),
        ("tif", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("tiff", {}),
        ("bmp", {}),
    ],
)
@pytest.mark.parametrize("sizes", [1, 2])
def test_files_without_loss_are_pixels_where_they_are_of_one_size(tmp_path, suffix, how, sizes):
    crops = []
    for row in range(5):
        size = (9, 8 + row % sizes, 3)
        crops.append(np.random.default_rng(row).integers(0, 256, size, dtype=np.uint8))
        (tmp_path / "in/BLA").mkdir(parents=True, exist_ok=True)
        Image.fromarray(crops[row]).save(tmp_path / f"in/BLA/{row}.{suffix}", **how)
    result = call(tmp_path / "in", tmp_path / "a.h5")
    assert ("encoding raw" if sizes == 1 else "encoding jpeg (the files' own") in result.stderr
    with open_archive(tmp_path / "a.h5") as opened:
        for crop, read in zip(crops, opened.read(0, 5), strict=True):
            np.testing.assert_array_equal(read, crop)


def test_one_part_of_a_run(images, tmp_path, monkeypatch):
    def open_run(path):
        assert path == tmp_path
        return SimpleNamespace(rows=lambda cells, part: np.array({"test": [3, 0]}[part]))

    monkeypatch.setattr(cytodino.run, "open_run", open_run)
    result = call(images, tmp_path / "a.h5", "--run", tmp_path, "--part", "test")
    assert result.exit_code == 0, result.output
    with open_archive(tmp_path / "a.h5") as opened:
        assert opened.ids == [NAMES[0], NAMES[3]]


@pytest.mark.parametrize(
    "options",
    [
        ["--encoding", "jpeg", "--compression", "gzip"],
        ["--run", "."],
        ["--part", "test"],
        ["--encoding", "webp"],
        ["--part", "all"],
    ],
)
def test_options_that_do_not_fit_are_usage_errors(images, tmp_path, options):
    result = call(images, tmp_path / "a.h5", *options)
    assert result.exit_code == 2
    assert not (tmp_path / "a.h5").exists()


def test_a_missing_folder_is_a_usage_error(tmp_path):
    assert call(tmp_path / "nowhere", tmp_path / "a.h5").exit_code == 2


@pytest.mark.parametrize("kind", ["empty", "unknown", "broken", "grey", "taken"])
def test_bad_input_is_one_line_and_leaves_nothing(images, tmp_path, kind):
    source, named = images, ""
    if kind == "empty":
        source = tmp_path / "empty"
        source.mkdir()
        named = "holds no image"
    elif kind == "unknown":
        (images / "NGS").rename(images / "zebra")
        named = "zebra"
    elif kind == "broken":
        (images / NAMES[2]).write_bytes((images / NAMES[2]).read_bytes()[:50])
        named = str(images / NAMES[2])
    elif kind == "grey":
        Image.new("L", (8, 9)).save(images / NAMES[1])
        named = "is a grey image"
    else:
        (tmp_path / "a.h5").write_bytes(b"precious")
        named = "exists already"
    result = call(source, tmp_path / "a.h5")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert named in result.stderr
    files = [path.name for path in tmp_path.iterdir() if path.is_file()]
    assert files == (["a.h5"] if kind == "taken" else [])


def test_as_the_installed_program(images, tmp_path):
    program = [sys.executable, "-c", "from cytodino.cli import main; main()"]
    done = subprocess.run(
        [*program, "pack", str(images), str(tmp_path / "a.h5")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'a.h5'}\n"), done.stderr
