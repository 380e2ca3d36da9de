"""What a killed export leaves is cleared up, and nothing else."""

import os
import platform
import shutil
from pathlib import Path

import pytest

from cytodino.errors import ExportError
from cytodino_export import partial_folder as module
from cytodino_export.partial_folder import partial_folder


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A folder of a process that is gone, old enough."""
    folder = tmp_path / f".bundle.{platform.node()}-1-ab.partial"
    folder.mkdir()
    (folder / "model.fp32.onnx").write_bytes(b"x")
    os.utime(folder, (0, 0))
    return folder


def test_it_is_gone_in_the_end_unless_it_was_renamed(tmp_path: Path) -> None:
    with partial_folder(tmp_path / "a" / "bundle") as folder:
        (folder / "x").write_text("x")
    assert list((tmp_path / "a").iterdir()) == []
    with partial_folder(tmp_path / "a" / "bundle") as folder:
        (folder / "x").write_text("x")
        folder.rename(tmp_path / "a" / "bundle")
    assert [path.name for path in (tmp_path / "a").rglob("*")] == ["bundle", "x"]


def test_an_error_in_the_block_comes_out_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), partial_folder(tmp_path / "bundle"):
        raise OSError(28, "full")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_goes(tmp_path: Path, left: Path) -> None:
    with partial_folder(tmp_path / "bundle"):
        assert not left.exists()


def test_what_a_living_export_writes_stays(tmp_path: Path) -> None:
    with partial_folder(tmp_path / "bundle") as folder:
        os.utime(folder, (0, 0))
        module._remove_leftovers(tmp_path / "bundle")
        assert folder.exists()


@pytest.mark.parametrize(
    "name", [".other.{}-1-ab.partial", ".bundle.far{}-1-ab.partial", ".bundle.{}-1-ab.kept"]
)
def test_what_is_not_an_exports_stays(tmp_path: Path, left: Path, name: str) -> None:
    other = tmp_path / name.format(platform.node())
    shutil.copytree(left, other)
    os.utime(other, (0, 0))
    with partial_folder(tmp_path / "bundle"):
        assert other.exists()


def test_a_young_folder_may_not_be_locked_yet(tmp_path: Path, left: Path) -> None:
    os.utime(left)
    with partial_folder(tmp_path / "bundle"):
        assert left.exists()


def test_one_that_cannot_be_looked_at_stops_nothing(
    tmp_path: Path, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "_remove_unlocked", refuse)
    with partial_folder(tmp_path / "bundle") as folder:
        assert folder.is_dir() and left.exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(ExportError, match="cannot be written.*--out"),
        partial_folder(tmp_path / "file" / "bundle"),
    ):
        pass
