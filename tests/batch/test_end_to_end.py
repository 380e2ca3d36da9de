"""The installed program, a real bundle and a real engine, on an archive that `pack` would write."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cytodino.taxonomy import CODES

from .conftest import draw_crops, write_crops
from .tiny_bundle import reference_logits, write_bundle

PROGRAM = Path(sys.executable).with_name("cytodino-batch")


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


def classify(tmp_path, *args):
    command = [PROGRAM, "classify", *args, "--bundle", tmp_path / "bundle", "--out", tmp_path / "o"]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_the_installed_program_classifies(tmp_path, bundle):
    crops = draw_crops(150)
    coords = np.arange(300).reshape(150, 2)
    ids = [f"slide/{row}.png" for row in range(150)]
    path = write_crops(tmp_path / "s.h5", crops, ids=ids, coords=coords, damaged=[11])
    done = classify(tmp_path, path)
    assert done.returncode == 3, done.stderr
    assert re.search(r"variant fp32, batches of \d+ \(crops/s by batch: 4: ", done.stderr)
    expected = reference_logits(crops)
    kept = [row for row in range(150) if row != 11]
    with h5py.File(tmp_path / "o/s/predictions.h5") as file:
        np.testing.assert_allclose(file["logits"][:], expected[kept], atol=1e-5)
    with (tmp_path / "o/s/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [CODES[expected[row].argmax()] for row in kept]
    assert [row["id"] for row in rows] == [ids[row] for row in kept]
    assert (rows[2]["x"], rows[2]["y"]) == ("4", "5")
    summary = json.loads((tmp_path / "o/s/summary.json").read_text(encoding="utf-8"))
    assert summary["provenance"]["engine"]["engine"] == "onnxruntime"
    assert summary["counts"]["quarantined"] == 1


def test_results_do_not_depend_on_the_batch_size(tmp_path, bundle):
    path = write_crops(tmp_path / "s.h5", draw_crops(70))
    for size in ("1", "7", "64"):
        assert classify(tmp_path, path, "--batch-size", size).returncode == 0
        (tmp_path / "o/s").rename(tmp_path / size)
    one = (tmp_path / "1/predictions.csv").read_text(encoding="utf-8")
    assert one == (tmp_path / "7/predictions.csv").read_text(encoding="utf-8")
    assert one == (tmp_path / "64/predictions.csv").read_text(encoding="utf-8")


def test_a_bundle_with_a_missing_file_stops_before_any_work(tmp_path, bundle):
    (bundle / "golden.h5").unlink()
    done = classify(tmp_path, write_crops(tmp_path / "s.h5", draw_crops(3)))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_classifying_loads_no_torch(tmp_path, bundle):
    path = write_crops(tmp_path / "s.h5", draw_crops(3))
    code = (
        "import sys\nfrom cytodino_batch.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n"
        "    sys.stderr.write('\\n' + ' '.join(sys.modules))"
    )
    command = ["classify", path, "--bundle", bundle, "--out", tmp_path / "o"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.splitlines()[-1].split())
    assert loaded.isdisjoint({"torch", "transformers", "peft", "onnx"})
    assert "onnxruntime" in loaded
