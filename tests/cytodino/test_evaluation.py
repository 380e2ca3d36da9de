import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cytodino.archive import write_archive
from cytodino.calibration import Targets
from cytodino.calibration.file import Confidence, write_confidence
from cytodino.cells import open_cells
from cytodino.commands.evaluate import evaluate as evaluate_command
from cytodino.console import CommandGroup
from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.errors import CropError, InputError, MissingExtraError, MissingPathError
from cytodino.evaluation import Evaluation, evaluate
from cytodino.evaluation_report import write_report
from cytodino.run import Run
from cytodino.statistics import softmax
from cytodino.taxonomy import CODES, index_of
from tests.batch.tiny_bundle import draw_calibration, reference_logits, write_bundle

STEP = 12
"""A cell's grey value over this is the class that `PaintedEngine` sees in it."""

ANSWERS = {
    "BLA": ["BLA", "BLA", "LYT", "MON"],
    "LYT": ["LYT", "LYT", "BLA"],
    "NGS": ["NGS", "NGB", "NGS", "NGS"],
    "ART": ["ART"],
}
"""What the engine says of each class's cells, in the order of their files."""


class PaintedEngine(CheckedEngine):
    """Reads its answer off the crop's pixels."""

    name, variant, device = "painted", "fp32", "cpu"
    closed = False

    def _infer(self, crops: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(crops), 21), dtype=np.float32)
        logits[np.arange(len(crops)), crops[:, 0, 0, 0] // STEP] = 3.0
        return logits

    def describe(self) -> EngineDescription:
        return EngineDescription(
            engine=self.name,
            variant=self.variant,
            device=self.device,
            provider="paint",
            version="1",
            options={},
        )

    def close(self) -> None:
        self.closed = True  # and can be used again, by the next evaluation of the same test

    def _release(self) -> None:
        pass


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for code, answers in ANSWERS.items():
        (root / code).mkdir(parents=True)
        for number, answer in enumerate(answers):
            grey = STEP * index_of(answer) + 3
            size = (8 + number % 2, 9)
            Image.new("RGB", size, (grey, grey, grey)).save(root / code / f"{code}_{number}.png")
    return root


def pretend_run(path: Path, fingerprint: str, split: dict[str, list[str]]) -> Run:
    path.mkdir()
    (path / "run.json").write_text("{}")
    (path / "head.safetensors").write_bytes(b"head")
    (path / "adapter").mkdir()
    (path / "adapter" / "adapter_model.safetensors").write_bytes(b"adapter")
    manifest: Any = SimpleNamespace(data=SimpleNamespace(fingerprint=fingerprint))
    return Run(path, manifest, split)


@pytest.fixture
def engine() -> PaintedEngine:
    return PaintedEngine()


@pytest.fixture
def run(
    tmp_path: Path, images: Path, engine: PaintedEngine, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A run that was trained on `images`, its test part two cells of each of two classes."""
    ids = open_cells(images).ids
    test = ["LYT/LYT_2.png", "BLA/BLA_2.png", "BLA/BLA_0.png", "LYT/LYT_0.png"]
    split = {
        "train": [name for name in ids if name not in test][3:],
        "validation": [name for name in ids if name not in test][:1],
        "calibration": [name for name in ids if name not in test][1:3],
        "test": test,
    }
    path = tmp_path / "run"
    opened = pretend_run(path, open_cells(images).fingerprint(), split)
    monkeypatch.setattr("cytodino.run.open_run", lambda _: opened)
    monkeypatch.setattr("cytodino.engines.pytorch.open_reference", lambda _, device: engine)
    return path


@pytest.fixture
def bundle(tmp_path: Path, engine: PaintedEngine, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "cytodino.json").write_text("{}")
    provenance = SimpleNamespace(data={"fingerprint": "of other cells"})
    opened = SimpleNamespace(
        path=path, sha256="b" * 64, manifest=SimpleNamespace(provenance=provenance, files={})
    )
    asked: dict[str, str] = {}

    def open_engine(given: object, **options: str) -> PaintedEngine:
        assert given is opened
        asked.update(options)
        return engine

    monkeypatch.setattr("cytodino.bundle.open_bundle", lambda _: opened)
    monkeypatch.setattr("cytodino.engines.open_engine", open_engine)
    return path


def codes_of(indices: Sequence[int] | np.ndarray) -> list[str]:
    return [CODES[int(index)] for index in indices]


def test_a_bundle_is_scored_on_every_cell(
    bundle: Path, images: Path, engine: PaintedEngine
) -> None:
    said: list[str] = []
    progress: list[tuple[int, int]] = []

    found = evaluate(
        bundle,
        images,
        batch_size=3,
        say=said.append,
        progress=lambda done, of: progress.append((done, of)),
    )

    assert found.scores.n == 12
    assert found.scores.accuracy == pytest.approx(8 / 12)
    assert found.scores.critical_errors.count == 2
    assert found.confusion[index_of("BLA"), index_of("MON")] == 1
    answers = dict(zip(found.ids, codes_of(found.predictions), strict=True))
    assert answers["BLA/BLA_3.png"] == "MON"
    assert answers["NGS/NGS_1.png"] == "NGB"
    assert codes_of(found.labels) == [name[:3] for name in found.ids]
    np.testing.assert_allclose(found.confidences, np.exp(3) / (np.exp(3) + 20))
    assert said == []
    assert sum(done for done, _ in progress) == 12
    assert {of for _, of in progress} == {12}
    assert engine.closed


def test_provenance_names_model_data_and_machine(bundle: Path, images: Path) -> None:
    about = evaluate(bundle, images, batch_size=5).provenance

    assert (about.model, about.model_kind, about.model_sha256) == (str(bundle), "bundle", "b" * 64)
    assert (about.data, about.data_kind, about.part) == (str(images), "folder", "all")
    assert about.data_fingerprint == open_cells(images).fingerprint()
    assert about.engine.provider == "paint"
    assert about.batch_size == 5
    assert "numpy" in about.machine.versions


def test_an_archive_scores_like_its_folder(bundle: Path, images: Path, tmp_path: Path) -> None:
    archive = tmp_path / "cells.h5"
    write_archive(archive, open_cells(images), encoding="jpeg", compression="none")

    folder, packed = evaluate(bundle, images), evaluate(bundle, archive)

    assert packed.scores == folder.scores
    assert packed.provenance.data_kind == "archive"


def test_a_runs_own_cells_are_scored_on_its_test_part(run: Path, images: Path) -> None:
    said: list[str] = []

    found = evaluate(run, images, say=said.append)

    assert set(found.ids) == {"LYT/LYT_2.png", "BLA/BLA_2.png", "BLA/BLA_0.png", "LYT/LYT_0.png"}
    assert found.scores.accuracy == pytest.approx(0.5)
    assert found.provenance.part == "test"
    assert found.provenance.model_kind == "run"
    assert len(said) == 1
    assert "untouched test part" in said[0]


def test_other_cells_are_all_scored(run: Path, images: Path) -> None:
    (images / "ART" / "ART_0.png").unlink()
    for path in images.rglob("*.png"):
        path.rename(path.with_name(f"new_{path.name}"))
    said: list[str] = []

    found = evaluate(run, images, say=said.append)

    assert found.scores.n == 11
    assert found.provenance.part == "all"
    assert said == []


@pytest.mark.parametrize(
    ("part", "n"), [("train", 5), ("validation", 1), ("calibration", 2), ("all", 12)]
)
def test_a_part_can_be_named(run: Path, images: Path, part: Any, n: int) -> None:
    found = evaluate(run, images, part=part)
    assert found.scores.n == n
    assert found.provenance.part == part


def test_scoring_cells_that_were_trained_on_is_said(run: Path, images: Path) -> None:
    said: list[str] = []
    evaluate(run, images, part="all", say=said.append)
    assert len(said) == 1
    assert "on 6 of these 12 cells" in said[0]
    assert "flatter" in said[0]


def test_a_bundle_on_its_runs_own_cells_says_that_they_flatter(
    bundle: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cytodino.bundle

    opened: Any = cytodino.bundle.open_bundle(bundle)
    opened.manifest.provenance.data["fingerprint"] = open_cells(images).fingerprint()
    said: list[str] = []

    assert evaluate(bundle, images, say=said.append).scores.n == 12

    assert len(said) == 1
    assert "flatter" in said[0]


def test_a_part_whose_cells_are_not_there_is_refused(run: Path, images: Path) -> None:
    (images / "LYT" / "LYT_2.png").unlink()
    with pytest.raises(InputError, match="LYT_2"):
        evaluate(run, images, part="test")


def test_a_bundle_has_no_parts(bundle: Path, images: Path) -> None:
    with pytest.raises(InputError, match="give the run for --part test"):
        evaluate(bundle, images, part="test")


def test_the_hash_of_a_run_is_that_of_its_weights(run: Path, images: Path) -> None:
    before = evaluate(run, images).provenance.model_sha256
    assert evaluate(run, images).provenance.model_sha256 == before
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"another adapter")
    assert evaluate(run, images).provenance.model_sha256 != before


def test_a_damaged_image_is_an_error_with_its_path(bundle: Path, images: Path) -> None:
    damaged = images / "NGS" / "NGS_1.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(CropError, match=r"NGS_1\.png"):
        evaluate(bundle, images)


def test_unlabelled_cells_cannot_be_scored(bundle: Path, images: Path, tmp_path: Path) -> None:
    cells = open_cells(images)
    cells.labels = None
    write_archive(tmp_path / "cells.h5", cells, encoding="jpeg", compression="none")
    with pytest.raises(InputError, match="label"):
        evaluate(bundle, tmp_path / "cells.h5")


def test_what_is_neither_run_nor_bundle_is_refused(tmp_path: Path, images: Path) -> None:
    with pytest.raises(InputError, match="neither a run"):
        evaluate(images, images)
    with pytest.raises(MissingPathError):
        evaluate(tmp_path / "absent", images)


@pytest.mark.parametrize("options", [{"engine": "onnxruntime"}, {"variant": "int8"}])
def test_a_run_takes_no_engine_or_variant(run: Path, images: Path, options: Any) -> None:
    with pytest.raises(InputError, match="PyTorch, fp32"):
        evaluate(run, images, **options)


def test_a_bundle_holds_no_pytorch_model(bundle: Path, images: Path) -> None:
    with pytest.raises(InputError, match="give the run"):
        evaluate(bundle, images, engine="pytorch")


def test_a_run_without_torch_names_the_extra_before_any_work(
    run: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[train\]"):
        evaluate(run, images)


@pytest.fixture
def evaluation(bundle: Path, images: Path) -> Evaluation:
    return evaluate(bundle, images)


def test_the_report_holds_scores_matrix_picture_and_cells(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "report"

    write_report(evaluation, out)

    assert sorted(path.name for path in out.iterdir()) == [
        "confusion.json",
        "confusion.png",
        "evaluation.html",
        "evaluation.json",
        "predictions.csv",
    ]
    content = json.loads((out / "evaluation.json").read_text())
    assert content["scores"] == evaluation.scores.model_dump(mode="json")
    assert content["provenance"]["data_fingerprint"] == evaluation.provenance.data_fingerprint
    matrix = json.loads((out / "confusion.json").read_text())
    assert matrix["classes"] == list(CODES)
    assert matrix["counts"] == evaluation.confusion.tolist()
    with Image.open(out / "confusion.png") as picture:
        assert picture.size[0] >= 1000
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "label", "predicted", "confidence"]
    assert [row["id"] for row in rows] == list(evaluation.ids)
    assert [row["predicted"] for row in rows] == codes_of(evaluation.predictions)
    assert float(rows[0]["confidence"]) == pytest.approx(evaluation.confidences[0], abs=1e-6)
    assert [path.name for path in out.parent.iterdir()] == ["report"]


def test_an_empty_folder_is_filled_and_a_full_one_refused(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    write_report(evaluation, tmp_path / "empty")
    assert (tmp_path / "empty" / "evaluation.json").is_file()
    with pytest.raises(InputError, match="not empty"):
        write_report(evaluation, tmp_path / "empty")


def test_a_report_that_fails_leaves_nothing(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Image.Image, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    (tmp_path / "reports").mkdir()
    with pytest.raises(InputError, match="No space left"):
        write_report(evaluation, tmp_path / "reports" / "one")
    assert list((tmp_path / "reports").iterdir()) == []


@pytest.fixture
def command() -> Callable[..., Result]:
    def invoke(*arguments: object) -> Result:
        group = CommandGroup("cytodino", commands=[evaluate_command])
        return CliRunner().invoke(group, ["evaluate", *map(str, arguments)])

    return invoke


def test_an_archive_that_says_little_of_itself_is_scored_as_it_is_said_to_be_read(
    command: Callable[..., Result], bundle: Path, images: Path, tmp_path: Path
) -> None:
    cells = open_cells(images)
    alike = [row for row in range(len(cells)) if cells.read(row).shape == cells.read(0).shape]
    archive = tmp_path / "foreign.h5"
    with h5py.File(archive, "w") as file:
        file["in/cells"] = np.stack([cells.read(row)[:, :, ::-1] for row in alike])
        file["masks"] = np.zeros((2, 4, 4, 3), np.uint8)
        file["kind"] = cells.labels[alike]
        file["name"] = np.array([cells.ids[row] for row in alike], dtype=h5py.string_dtype())
    refused = command(bundle, archive)
    assert (refused.exit_code, "--dataset NAME" in refused.stderr) == (1, True)

    options = ["--dataset", "in/cells", "--channel-order", "bgr", "--labels", "kind"]
    result = command(bundle, archive, *options, "--ids", "name", "--out", tmp_path / "scores")

    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "scores/evaluation.json").read_text())
    assert found["scores"]["n"] == len(alike)
    assert found["provenance"]["read"] == {
        "dataset": "in/cells",
        "channel_order": "bgr",
        "labels": "kind",
        "ids": "name",
    }
    with (tmp_path / "scores/predictions.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [cells.ids[row] for row in alike]


def test_the_command_prints_the_scores_and_how_to_keep_them(
    command: Callable[..., Result], bundle: Path, images: Path
) -> None:
    result = command(bundle, images, "--batch-size", 4)

    assert result.exit_code == 0, result.output
    for words in ("weighted F1", "macro F1", "accuracy", "weighted precision", "66.7"):
        assert words in result.stdout
    assert "2 of 4 critical cells called safe (50.0%)" in result.stdout
    assert "BLA -> LYT" in result.stdout
    assert "segmented neutrophil" in result.stdout
    assert "--out DIR" in result.stderr
    assert "--out DIR" not in result.stdout


def test_a_narrow_terminal_cuts_no_figure(
    command: Callable[..., Result], bundle: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    result = command(bundle, images)
    assert "segmented neutrophil" in result.stdout
    assert "…" not in result.stdout


def test_the_command_writes_where_it_is_told_to(
    command: Callable[..., Result], bundle: Path, images: Path, tmp_path: Path
) -> None:
    result = command(bundle, images, "--out", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "report") in result.stdout
    assert (tmp_path / "report" / "confusion.png").is_file()


def test_the_command_refuses_a_full_folder_before_it_begins(
    command: Callable[..., Result], bundle: Path, images: Path, engine: PaintedEngine
) -> None:
    result = command(bundle, images, "--out", images)
    assert result.exit_code == 1
    assert "not empty" in result.stderr
    assert not engine.closed
    file = images / "ART" / "ART_0.png"
    assert "this is a file" in command(bundle, images, "--out", file).stderr


def test_the_command_says_which_part_it_chose(
    command: Callable[..., Result], run: Path, images: Path
) -> None:
    result = command(run, images)
    assert result.exit_code == 0, result.output
    assert "untouched test part" in result.stderr
    assert "1 of 2 critical cells" in result.stdout


def test_the_command_says_so_where_no_critical_error_could_or_did_happen(
    command: Callable[..., Result], bundle: Path, images: Path
) -> None:
    for number in (2, 3):
        (images / "BLA" / f"BLA_{number}.png").unlink()
    assert "0 of 2 critical cells called safe" in command(bundle, images).stdout
    for number in (0, 1):
        (images / "BLA" / f"BLA_{number}.png").unlink()
    (images / "BLA").rmdir()
    assert "not measured" in command(bundle, images).stdout


def test_many_kinds_of_critical_error_are_printed_by_number(
    command: Callable[..., Result], bundle: Path, images: Path, tmp_path: Path
) -> None:
    (images / "MYB").mkdir()
    safe = ("BAS", "EBO", "EOS", "LYT", "MON", "NGB", "NGS", "PLM")
    pairs = [(true, called) for true in ("MYB", "ABE") for called in safe]
    for number, (true, called) in enumerate(pairs):
        grey = STEP * index_of(called) + 3
        (images / true).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(images / true / f"{number}.png")

    result = command(bundle, images, "--out", tmp_path / "report")

    assert result.stdout.count(" -> ") == 1 + 12
    assert "and 6 rarer kinds" in result.stdout
    kept = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert len(kept["scores"]["critical_errors"]["pairs"]) == 18


def test_macro_f1_of_large_classes_is_printed_where_there_are_any(
    command: Callable[..., Result], bundle: Path, images: Path
) -> None:
    assert "0 of them have 20 cells" in command(bundle, images).stdout
    grey = STEP * index_of("ART") + 3
    for number in range(1, 20):
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(images / "ART" / f"ART_{number}.png")
    result = command(bundle, images)
    assert "1 of them have 20 cells" in result.stdout
    assert "100.0" in result.stdout


def test_a_missing_model_is_one_line_and_exit_2(
    command: Callable[..., Result], images: Path, tmp_path: Path
) -> None:
    result = command(tmp_path / "absent", images)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_real_bundle_is_evaluated_without_torch(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle, out = write_bundle(tmp_path / "bundle"), tmp_path / "report"
    script = "import sys\nsys.modules['torch'] = None\nfrom cytodino.cli import main\nmain()\n"

    done = subprocess.run(
        [sys.executable, "-c", script, "evaluate", bundle, images, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    with (out / "predictions.csv").open(newline="") as file:
        predicted = [row["predicted"] for row in csv.DictReader(file)]
    cells = open_cells(images)
    logits = reference_logits([cells.read(index) for index in range(len(cells))])
    assert predicted == codes_of(logits.argmax(axis=1))
    about = json.loads((out / "evaluation.json").read_text())["provenance"]
    assert about["engine"]["provider"] == "CPUExecutionProvider"


def test_a_bundles_calibration_is_held_against_the_labels(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = draw_calibration()
    bundle = write_bundle(tmp_path / "bundle", calibration=model)
    found = evaluate(bundle, images, engine="onnxruntime", variant="fp32", device="cpu")
    cells = open_cells(images)
    logits = reference_logits([cells.read(index) for index in range(len(cells))])
    fitted = model.calibration
    assert fitted.guarantee is not None
    np.testing.assert_allclose(
        found.confidences, softmax(logits / fitted.temperature).max(axis=1), rtol=1e-4
    )
    assert found.confidence.calibrated is not None
    assert found.confidence.calibrated.temperature == fitted.temperature
    assert found.accepted is not None
    assert found.confidence.accepted is not None
    assert found.confidence.accepted.accepted == int(found.accepted.sum())
    write_report(found, tmp_path / "report")
    with (tmp_path / "report/predictions.csv").open(newline="") as file:
        lines = [float(row["confidence"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(lines, found.confidences, atol=1e-6)

    result = CliRunner().invoke(
        evaluate_command,
        [str(bundle), str(images), "--engine", "onnxruntime", "--variant", "fp32"],
    )
    assert result.exit_code == 0, result.output
    assert "calibrated" in result.stdout
    assert "promised: at least 70 % of the accepted cells are right" in " ".join(
        result.stdout.split()
    )


def test_scoring_the_calibration_part_says_that_confidence_flatters(
    run: Path, images: Path
) -> None:
    pretend = draw_calibration()
    write_confidence(
        run,
        Confidence(
            created=datetime(2025, 1, 1, tzinfo=UTC),
            cytodino_version="0.1.0",
            targets=Targets(),
            source={},
            models=(pretend,),
        ),
    )
    said: list[str] = []
    evaluate(run, images, part="calibration", say=said.append)
    assert ["confidence was calibrated on these cells" in line for line in said] == [True]


def test_what_the_engine_warns_of_is_said(
    bundle: Path, images: Path, engine: PaintedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = engine.describe().model_copy(update={"warnings": ("CUDA did not load",)})
    monkeypatch.setattr(engine, "describe", lambda: described)
    said: list[str] = []
    evaluate(bundle, images, say=said.append)
    assert said == ["warning: CUDA did not load"]
