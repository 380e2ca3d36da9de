"""Confidence is fitted again for each variant that passes, on the engine that it passed on."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytodino.bundle import open_bundle
from cytodino.bundle.confidence import load_confidence
from cytodino.calibration import Refusal, Targets, calibrate
from cytodino.calibration.file import (
    CONFIDENCE_NAME,
    Confidence,
    ModelCalibration,
    write_confidence,
)
from cytodino.cells import open_cells
from cytodino.engines import open_engine
from cytodino.engines.selection import Target
from cytodino.errors import BundleError, MissingPathError
from cytodino.inference import predict_cells
from cytodino.run import open_run
from cytodino.run_folder import write_manifest
from cytodino.run_manifest import RunManifest
from cytodino_export import gate, pipeline
from cytodino_export.pipeline import ExportOptions, ExportResult, export_run
from cytodino_export.tables import show_confidence

CPU = "CPUExecutionProvider"


@pytest.fixture
def quick(exported: ExportResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the graph that was exported before: tracing it is most of an export's time."""

    def copy(model: Any, path: Path, **options: Any) -> Path:
        assert exported.bundle is not None
        path.write_bytes((exported.bundle / "model.fp32.onnx").read_bytes())
        return path

    monkeypatch.setattr(pipeline, "write_graph", copy)
    monkeypatch.setattr(gate, "probe", lambda *a, **o: None)
    monkeypatch.setattr(gate, "targets_found", lambda: [Target("onnxruntime", "cpu", CPU)])


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory, make_cells: Callable[..., Path]) -> Path:
    """126 cells that the run does not know, though most bear names that it has."""
    return make_cells(tmp_path_factory.mktemp("strangers") / "images", seed=5, cells=6)


def export(run: Path, out: Path, **options: Any) -> ExportResult:
    return export_run(run, out, ExportOptions(precisions=("fp32",), **options))


def test_each_variant_that_passed_has_a_calibration_of_its_own(
    run_path: Path, strangers: Path, quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = export(run_path, tmp_path / "bundle", confidence=strangers)
    assert result.bundle is not None
    bundle = open_bundle(result.bundle)
    found = load_confidence(bundle)
    assert found == result.confidence
    assert found is not None
    passed = {
        (name, verdict.engine, verdict.provider)
        for name, variant in bundle.manifest.variants.items()
        for verdict in variant.verdicts
        if verdict.verdict == "passed"
    }
    assert {(one.variant, one.engine, one.provider) for one in found.models} == passed
    assert ("fp32", "onnxruntime", CPU) in passed
    assert (found.source["part"], found.source["n"]) == ("given", 126)
    assert bundle.manifest.provenance.options["confidence"] == str(strangers)
    show_confidence(found)
    said = " ".join(capsys.readouterr().err.split())
    assert "at least 95 % of the accepted cells are right" in said


def test_it_is_fitted_on_what_that_engine_says_of_those_cells(
    run_path: Path, strangers: Path, quick: None, tmp_path: Path
) -> None:
    result = export(run_path, tmp_path / "bundle", confidence=strangers, confidence_cells=80)
    assert result.bundle is not None
    assert result.confidence is not None
    ids = result.confidence.source["ids"]
    cells = open_cells(strangers)
    assert cells.labels is not None
    rows = np.array([cells.ids.index(name) for name in ids])
    bundle = open_bundle(result.bundle)
    with open_engine(bundle, engine="onnxruntime", variant="fp32", device="cpu") as engine:
        logits = predict_cells(engine, cells, rows, batch_size=8)
    own = result.confidence.find(variant="fp32", engine="onnxruntime", provider=CPU)
    assert own is not None
    assert len(ids) == 80
    again = calibrate(logits, cells.labels[rows], ids)
    assert own.calibration.temperature == pytest.approx(again.temperature, rel=1e-6)
    assert isinstance(own.calibration.review, Refusal)  # random weights deserve no trust


def test_the_runs_own_calibration_part_is_taken_and_what_it_was_asked_to_promise(
    run_path: Path, cells_path: Path, quick: None, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_path, tmp_path / "run"))
    with (run / "split.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    moved = [line for line in lines if line[1] == "train" or line[0].endswith("001.png")]
    for line in moved:
        line[1] = "calibration"
    with (run / "split.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    write_manifest(run, RunManifest.model_validate_json((run / "run.json").read_text()))
    targets = Targets(accuracy=0.8, critical_rate=0.1, level=0.9)
    fitted = calibrate(
        np.eye(21, dtype=np.float32)[np.arange(84) % 21],
        np.arange(84) % 21,
        [str(at) for at in range(84)],
        targets,
    )
    own = ModelCalibration(
        variant="fp32", engine="pytorch", provider="cpu", machine="m", calibration=fitted
    )
    write_confidence(
        run,
        Confidence(
            created=open_run(run).manifest.created,
            cytodino_version="0.1.0",
            targets=targets,
            source={},
            models=(own,),
        ),
    )
    result = export(run, tmp_path / "bundle")
    assert result.confidence is not None
    assert result.confidence.targets == targets
    assert result.confidence.source["part"] == "calibration"
    assert sorted(result.confidence.source["ids"]) == sorted(line[0] for line in moved)
    assert result.confidence.models[-1] == own  # for whoever classifies with PyTorch


def test_a_run_without_a_calibration_part_is_exported_all_the_same(
    run_path: Path, quick: None, tmp_path: Path
) -> None:
    said: list[str] = []
    options = ExportOptions(precisions=("fp32",))
    result = export_run(run_path, tmp_path / "bundle", options, say=said.append)
    assert result.bundle is not None
    assert result.confidence is None
    assert not (result.bundle / CONFIDENCE_NAME).exists()
    assert load_confidence(open_bundle(result.bundle)) is None
    (line,) = (one for one in said if "not calibrated" in one)
    assert "no calibration part" in line
    assert "--confidence" in line


def test_cells_that_are_not_there_are_told_before_any_work(run_path: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPathError):
        export(run_path, tmp_path / "bundle", confidence=tmp_path / "nowhere")


def test_a_changed_calibration_is_a_changed_bundle(
    run_path: Path, strangers: Path, quick: None, tmp_path: Path
) -> None:
    result = export(run_path, tmp_path / "bundle", confidence=strangers)
    assert result.bundle is not None
    path = result.bundle / CONFIDENCE_NAME
    content = json.loads(path.read_text())
    content["models"][0]["calibration"]["temperature"] += 0.1
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError):
        open_bundle(result.bundle)
