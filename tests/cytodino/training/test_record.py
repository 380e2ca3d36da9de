from pathlib import Path
from types import SimpleNamespace

import pytest

from cytodino.paths import hash_file
from cytodino.run_manifest import BackboneRecord, SplitRecord, TableRecord
from cytodino.training.record import Asked, differences

CELLS = SimpleNamespace(fingerprint=lambda: "f")


def finished(recipe, source, kind, *, path=None, groups=None, files=()):
    """What `differences` looks at of a finished run."""
    backbone = BackboneRecord(source=source, kind=kind, stored=True, path=path, sha256={})
    split = SplitRecord(seed=0, fractions={}, rule="", counts={}, groups=groups, files=files)
    data = SimpleNamespace(fingerprint="f")
    return SimpleNamespace(recipe=recipe, backbone=backbone, data=data, split=split)


@pytest.mark.parametrize("kind", ["folder", "run"])
def test_a_folder_is_told_by_where_it_lies(recipe, tmp_path, monkeypatch, kind):
    for name in ("exp1", "exp2"):
        (tmp_path / name / "dino").mkdir(parents=True)
    manifest = finished(recipe, "exp1/dino", kind, path=str(tmp_path / "exp1" / "dino"))
    monkeypatch.chdir(tmp_path / "exp1")
    for same in ("dino", "../exp1/dino", str(tmp_path / "exp1" / "dino")):
        assert differences(manifest, CELLS, Asked(recipe, same)) == []
    for other in ("../exp2/dino", "exp1/dino", "small"):
        assert differences(manifest, CELLS, Asked(recipe, other)) == ["backbone"]


def test_where_no_path_was_recorded_the_name_tells(recipe):
    manifest = finished(recipe, "exp1/base-0", "run")
    assert differences(manifest, CELLS, Asked(recipe, "elsewhere/base-0")) == []
    assert differences(manifest, CELLS, Asked(recipe, "exp1/base-1")) == ["backbone"]


@pytest.mark.parametrize(
    ("kind", "source", "other"), [("hub", "org-a/x", "org-b/x"), ("random", "small", "./small")]
)
def test_hub_models_and_configurations_are_told_in_full(recipe, kind, source, other):
    manifest = finished(recipe, source, kind)
    assert differences(manifest, CELLS, Asked(recipe, source)) == []
    assert differences(manifest, CELLS, Asked(recipe, other)) == ["backbone"]


def test_tables_may_be_named_in_another_order_but_not_for_another_use(recipe, tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"]
    for path in paths:
        path.write_text(path.name)
    parts = ["test", "train", None]

    def record(path: Path, part):
        return TableRecord(path=str(path), sha256=hash_file(path), part=part)

    files = tuple(map(record, paths, parts))
    named = tuple(zip(parts, paths, strict=True))
    manifest = finished(recipe, "small", "random", files=files)
    for order in (named, named[::-1]):
        assert differences(manifest, CELLS, Asked(recipe, "small", split=order)) == []
    another = ["division of the cells"]
    assert differences(manifest, CELLS, Asked(recipe, "small", split=named[1:])) == another
    grouped = finished(recipe, "small", "random", groups=record(paths[2], None))
    assert differences(grouped, CELLS, Asked(recipe, "small", paths[2])) == []
    split_by_it = Asked(recipe, "small", split=((None, paths[2]),))
    assert differences(grouped, CELLS, split_by_it) == another
