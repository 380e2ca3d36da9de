import errno
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytodino import run_files
from cytodino.cells import MemoryCells, open_cells
from cytodino.errors import InputError, MissingCellsError, MissingPathError, TaxonomyError
from cytodino.recipe import Recipe
from cytodino.run import open_run
from cytodino.run_files import ADAPTER, ADAPTER_FILES, BACKBONE, HEAD, SPLIT
from cytodino.run_folder import write_manifest, write_split
from cytodino.run_manifest import (
    MANIFEST,
    SCHEMA,
    BackboneRecord,
    DataRecord,
    HeadRecord,
    LoraRecord,
    RunManifest,
    SplitRecord,
)
from cytodino.taxonomy import CODES

IDS = ["BLA/a.png", "BLA/b.png", "LYT/c.png", "LYT/d.png"]
PARTS = ["train", "test", "train", "validation"]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for row, name in enumerate(IDS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (row, 0, 0)).save(folder / name)
    return folder


@pytest.fixture
def manifest(images):
    return RunManifest(
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        image_size=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        tune="lora",
        backbone=BackboneRecord(source="tiny", kind="random", stored=True, sha256={"a": "b"}),
        lora=LoraRecord(rank=2, alpha=4, dropout=0.1),
        head=HeadRecord(hidden=32, layers=1, heads=4, feedforward=64, dropout=0.2),
        recipe=Recipe(),
        data=DataRecord(
            path=str(images), kind="folder", fingerprint=open_cells(images).fingerprint(), n=4
        ),
        split=SplitRecord(seed=0, fractions={"train": 1.0}, rule="any", counts={}),
        parameters=(1, 2),
        best_epoch=1,
        history=(),
        metrics={},
        seconds=1.5,
        device="cpu",
        versions={"python": "3.11"},
    )


@pytest.fixture
def folder(tmp_path, manifest):
    path = tmp_path / "run"
    path.mkdir()
    (path / HEAD).touch()
    (path / ADAPTER).mkdir()
    for name in ADAPTER_FILES:
        (path / name).write_bytes(b"weights")
    (path / BACKBONE).mkdir()
    write_split(path, IDS, PARTS)
    write_manifest(path, manifest)
    return path


def change(folder, **fields):
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**content, **fields}))


def test_a_run_comes_back_as_it_was_written(folder, manifest):
    run = open_run(folder)
    assert run.manifest.model_copy(update={"files": {}}) == manifest
    assert run.split == {
        "train": ["BLA/a.png", "LYT/c.png"],
        "test": ["BLA/b.png"],
        "validation": ["LYT/d.png"],
    }
    assert (folder / SPLIT).read_text().splitlines()[:2] == ["id,part", "BLA/a.png,train"]
    assert run.manifest.classes == CODES
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize("name", [HEAD, *ADAPTER_FILES, SPLIT])
def test_a_file_that_changed_or_went_is_refused(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes() + b"!")
    with pytest.raises(InputError, match=f"{name} has changed .*; copy the run again, whole"):
        open_run(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        open_run(folder)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_file_that_is_none_now_is_missing(folder, make):
    (folder / SPLIT).unlink()
    make(folder / SPLIT)
    with pytest.raises(InputError, match=f"{SPLIT} is missing"):
        open_run(folder)


def test_a_file_that_may_not_be_read_says_so(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(run_files, "hash_file", refuse)
    with pytest.raises(InputError, match=f"{HEAD} cannot be read .*rights"):
        open_run(folder)


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", f"{ADAPTER}/../../x", "a\0b", f"{ADAPTER}/\ud800", ADAPTER]
)
def test_names_that_no_run_has_are_refused(folder, name):
    content = json.loads((folder / MANIFEST).read_text())
    change(folder, files=content["files"] | {name: "00"})
    with pytest.raises(InputError, match=r"run\.json: |among its files, which no run has"):
        open_run(folder)


@pytest.mark.parametrize("name", [HEAD, *ADAPTER_FILES, SPLIT])
def test_every_file_that_a_run_needs_is_told_of(folder, name):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    del files[name]
    change(folder, files=files)
    with pytest.raises(InputError, match=rf"run\.json does not say what {name} holds"):
        open_run(folder)


def test_a_run_that_does_not_say_what_it_holds_is_refused_unless_it_is_old(folder):
    change(folder, files={})
    with pytest.raises(InputError, match=rf"run\.json does not say what {HEAD} holds"):
        open_run(folder)
    change(folder, schema_version=2)
    assert open_run(folder).split


def test_a_run_of_schema_1_opens_with_its_three_parts(folder):
    content = json.loads((folder / MANIFEST).read_text())
    del content["split"]["groups"], content["split"]["files"], content["files"]
    (folder / MANIFEST).write_text(json.dumps({**content, "schema_version": 1}))
    run = open_run(folder)
    assert set(run.split) == {"train", "validation", "test"}
    assert run.manifest.split.groups is None
    with pytest.raises(InputError, match="no part 'calibration'; choose from train, test"):
        run.rows(run.open_cells(), "calibration")


def test_cells_whose_path_is_no_utf_8_do_not_end_a_training(folder, manifest):
    data = DataRecord(path="/ce\udcff", kind="folder", fingerprint="f", n=4)
    write_manifest(folder, manifest.model_copy(update={"data": data}))
    assert open_run(folder).manifest.data.path == "/ce\\udcff"


def test_its_cells_are_found_again(folder, images):
    run = open_run(folder)
    cells = run.open_cells()
    assert cells.path == images
    assert run.rows(cells, "train").tolist() == [0, 2]
    assert run.rows(cells, "train").dtype == np.int64


def test_its_cells_are_missed_when_they_are_gone(folder, images):
    images.rename(images.with_name("elsewhere"))
    with pytest.raises(MissingPathError, match="put the cells of this run back"):
        open_run(folder).open_cells()


def test_other_cells_in_their_place_are_refused(folder, images):
    Image.new("RGB", (8, 8), (9, 9, 9)).save(images / IDS[0])
    with pytest.raises(InputError, match="changed since the run was trained"):
        open_run(folder).open_cells()


def test_an_imported_run_has_no_cells(folder):
    change(folder, data=None, split=None)
    run = open_run(folder)
    assert run.split == {}
    with pytest.raises(MissingCellsError, match="was imported.*--data"):
        run.open_cells()


def test_a_part_that_is_not_there_is_refused(folder):
    run = open_run(folder)
    with pytest.raises(InputError, match="no part 'calibration'; choose from train, test"):
        run.rows(run.open_cells(), "calibration")


def test_a_source_that_lacks_cells_is_refused(folder):
    other = MemoryCells([np.zeros((4, 4, 3), np.uint8)], ids=[IDS[0]])
    with pytest.raises(InputError, match="1 cells of the run's train part .* first: LYT/c.png"):
        open_run(folder).rows(other, "train")


def test_a_path_that_is_not_there_is_missed(tmp_path):
    with pytest.raises(MissingPathError):
        open_run(tmp_path / "none")


def test_a_folder_without_a_manifest_is_no_run(folder):
    (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"is no run: it has no run\.json; give the folder"):
        open_run(folder)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"classes": []}', '{"schema_version": Infinity}', '{"schema_version": "x"}'],
)
def test_a_damaged_manifest_is_refused(folder, content):
    (folder / MANIFEST).write_text(content)
    with pytest.raises(InputError, match=r"run\.json: is damaged"):
        open_run(folder)


def test_a_newer_schema_is_refused(folder):
    change(folder, schema_version=SCHEMA + 1)
    with pytest.raises(InputError, match=f"newer than {SCHEMA}; upgrade cytodino"):
        open_run(folder)


def test_a_wrong_field_is_named(folder):
    change(folder, image_size="large")
    with pytest.raises(InputError, match="image_size: Input should be a valid integer"):
        open_run(folder)


def test_classes_in_another_order_are_refused(folder):
    change(folder, classes=list(reversed(CODES)))
    with pytest.raises(TaxonomyError, match=r"run\.json: .*in this order: ABE ART"):
        open_run(folder)


@pytest.mark.parametrize("name", [HEAD, ADAPTER, BACKBONE, SPLIT])
def test_a_missing_file_is_named(folder, name):
    path = folder / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        open_run(folder)


@pytest.mark.parametrize("heads", [0, 5])
def test_a_head_that_cannot_be_built_is_refused(folder, manifest, heads):
    change(folder, head={**manifest.head.model_dump(), "heads": heads})
    with pytest.raises(InputError, match=r"run\.json: head.*copy the run again, whole"):
        open_run(folder)


def test_a_split_of_another_form_is_refused(folder, manifest):
    (folder / SPLIT).write_text("name\n")
    write_manifest(folder, manifest)
    with pytest.raises(InputError, match="does not begin with id,part"):
        open_run(folder)


@pytest.mark.parametrize("line", [b"BLA/1.png", b"BLA/1.png,train,more", b"\xff\xfe,test"])
def test_a_damaged_line_of_the_split_is_named(folder, manifest, line):
    with (folder / "split.csv").open("ab") as file:
        file.write(line + b"\n")
    write_manifest(folder, manifest)
    with pytest.raises(InputError, match=r"split.csv: line \d+ is not an id and a part"):
        open_run(folder)
