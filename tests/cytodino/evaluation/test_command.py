import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from cytodino.cells import open_cells
from cytodino.taxonomy import index_of
from tests.batch.tiny_bundle import reference_logits, write_bundle
from tests.cytodino.evaluation.painted_model import STEP, PaintedEngine, codes_of


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
