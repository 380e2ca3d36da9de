import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cytodino.archive import write_archive
from cytodino.calibration import Targets
from cytodino.calibration.file import Confidence, write_confidence
from cytodino.cells import open_cells
from cytodino.commands.evaluate import evaluate as evaluate_command
from cytodino.errors import CropError, InputError, MissingExtraError, MissingPathError
from cytodino.evaluation import evaluate
from cytodino.evaluation_report import write_report
from cytodino.statistics import softmax
from cytodino.taxonomy import index_of
from tests.batch.tiny_bundle import draw_calibration, reference_logits, write_bundle
from tests.cytodino.evaluation.painted_model import PaintedEngine, codes_of


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
