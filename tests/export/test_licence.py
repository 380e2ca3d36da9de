import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cytodino.run import Run, open_run
from cytodino_export.licence import licence_of, write_licence


@pytest.fixture
def run_copy(run_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_path, tmp_path / "run"))


def say_backbone(folder: Path, **change: Any) -> Run:
    manifest = json.loads((folder / "run.json").read_text())
    manifest["backbone"] |= change
    (folder / "run.json").write_text(json.dumps(manifest))
    return open_run(folder)


def test_random_weights_are_free_of_it(run_copy: Path, tmp_path: Path) -> None:
    run = open_run(run_copy)
    assert "does not apply" in licence_of(run)
    (notice,) = write_licence(run, tmp_path)
    assert notice.name == "LICENSE-DINOV3-NOTICE.md"
    assert "does not apply" in notice.read_text()


def test_weights_from_the_hub_are_metas(run_copy: Path) -> None:
    assert "governed by" in licence_of(say_backbone(run_copy, kind="hub"))


def test_a_folder_is_metas_where_the_licence_lies_in_it(run_copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dinov3"
    folder.mkdir()
    run = say_backbone(run_copy, kind="folder", path=str(folder))
    assert licence_of(run).startswith("Where the weights derive")
    (folder / "LICENSE.md").write_text("DINOv3 License")
    assert "governed by" in licence_of(run)
    out = tmp_path / "out"
    out.mkdir()
    names = [path.name for path in write_licence(run, out)]
    assert names == ["LICENSE-DINOV3-NOTICE.md", "LICENSE-DINOV3.md"]
    assert (out / "LICENSE-DINOV3.md").read_text() == "DINOv3 License"


def test_a_run_from_a_run_is_followed_to_its_beginning(
    run_copy: Path, run_path: Path, tmp_path: Path
) -> None:
    run = say_backbone(run_copy, kind="run", source=str(run_path))
    assert "does not apply" in licence_of(run)
    run = say_backbone(run_copy, source=str(tmp_path / "gone"))
    assert licence_of(run).startswith("Where the weights derive")
    run = say_backbone(run_copy, source=str(run_copy))
    assert licence_of(run).startswith("Where the weights derive")


def test_a_licence_beside_a_run_says_nothing_of_its_weights(
    run_copy: Path, run_path: Path, tmp_path: Path
) -> None:
    beside = Path(shutil.copytree(run_path, tmp_path / "earlier"))
    (beside / "LICENSE").write_text("of the repository that keeps the run")
    run = say_backbone(run_copy, kind="run", source=str(beside), path=str(beside))
    assert "does not apply" in licence_of(run)
