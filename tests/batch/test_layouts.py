"""The same pixels in every layout give the same results, through the command itself."""

import csv
import json

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from cytodino_batch.cli import main
from tests.cytodino.archive.published import WRITERS, decode, draw_jpegs

from .tiny_bundle import write_bundle

FILES = draw_jpegs(20)
CROPS = decode(FILES)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("made") / "bundle")


def classify(bundle, out, *args):
    command = ["classify", *args, "--bundle", bundle, "--out", out]
    return CliRunner().invoke(main, [str(part) for part in command])


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predictions_are_the_same(tmp_path, bundle):
    archives = tmp_path / "archives"
    archives.mkdir()
    for name, write in WRITERS.items():
        write(archives / f"{name}.h5", CROPS, FILES)
    result = classify(bundle, tmp_path / "out", archives)
    assert result.exit_code == 0, result.stderr
    found = {
        name: [
            (row["label"], row["confidence"], row["runner_up"])
            for row in rows(tmp_path / "out" / name / "predictions.csv")
        ]
        for name in WRITERS
    }
    assert len(found["CLAM"]) == len(CROPS)
    assert len({label for label, *_ in found["CLAM"]}) > 1
    for name, predictions in found.items():
        assert predictions == found["contiguous"], name
    first = rows(tmp_path / "out" / "CLAM" / "predictions.csv")[2]
    assert (first["x"], first["y"]) == ("20", "100")


def test_what_was_assumed_is_said_and_kept(tmp_path, bundle):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cells"] = CROPS
    result = classify(bundle, tmp_path / "out", tmp_path / "a.h5")
    assert result.exit_code == 0
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("warning: a: ")]
    archive = json.loads((tmp_path / "out/a/summary.json").read_text(encoding="utf-8"))["archive"]
    (note,) = archive["notes"]
    assert said == f"warning: a: {note}"
    assert (archive["dataset"], archive["checksums"]) == ("/cells", False)


def test_the_options_reach_the_reader(tmp_path, bundle):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = CROPS
        file["b"] = CROPS[..., ::-1].transpose(0, 3, 1, 2)
        file["name"] = [f"cell {row}" for row in range(len(CROPS))]
    result = classify(bundle, tmp_path / "out", tmp_path / "a.h5")
    assert result.exit_code == 3
    assert "--dataset NAME" in result.stderr
    options = ["--dataset", "b", "--layout", "nchw", "--channel-order", "bgr", "--ids", "name"]
    dry = classify(bundle, tmp_path / "dry", tmp_path / "a.h5", *options, "--dry-run")
    assert "20 crops, pixels" in dry.stdout
    settled = classify(bundle, tmp_path / "b", tmp_path / "a.h5", *options)
    assert settled.exit_code == 0, settled.stderr
    named = classify(bundle, tmp_path / "a", tmp_path / "a.h5", "--dataset", "a")
    assert named.exit_code == 0
    one, other = rows(tmp_path / "a/a/predictions.csv"), rows(tmp_path / "b/a/predictions.csv")
    assert [row["label"] for row in one] == [row["label"] for row in other]
    assert other[3]["id"] == "cell 3"
    assert np.unique([row["label"] for row in one]).size > 1
