"""Accepted or for review: the bundle's threshold, its guarantee, and cells that it is not for."""

import csv
import json
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from cytodino.bundle import open_bundle
from cytodino.bundle.confidence import load_confidence
from cytodino.calibration.file import CONFIDENCE_NAME
from cytodino.errors import BundleError
from cytodino_batch import job
from cytodino_batch.cli import main
from cytodino_batch.confidence import ConfidenceRule, choose_rule
from cytodino_batch.header import result_changes
from cytodino_batch.merge import run_merge
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.shards import Shard
from cytodino_batch.summary import Summary

from .conftest import draw_crops, write_crops
from .tiny_bundle import draw_calibration, write_bundle


@pytest.fixture(scope="module")
def model():
    return draw_calibration()


@pytest.fixture
def bundle(tmp_path, model):
    return write_bundle(tmp_path / "bundle", calibration=model)


def classify(tmp_path: Path, archive: Path, *more: str, out: str = "out"):
    args = ["classify", archive, "--bundle", tmp_path / "bundle", "--out", tmp_path / out]
    args += ["--batch-size", "8", "--engine", "onnxruntime", "--variant", "fp32", *more]
    return CliRunner().invoke(main, [str(arg) for arg in args])


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_the_bundle_decides_which_cells_are_accepted(tmp_path, bundle, model):
    found = model.calibration
    assert found.guarantee is not None
    result = classify(tmp_path, write_crops(tmp_path / "s.h5", draw_crops(400, seed=1)))
    assert result.exit_code == 0, result.output
    summary = summary_of(tmp_path / "out/s")
    section = summary["confidence"]
    assert (section["column"], section["threshold_from"]) == ("calibrated", "bundle")
    assert section["threshold"] == summary["review"]["below"] == found.guarantee.threshold
    assert section["supported"]
    assert not section["shift"]["shifted"]
    assert "nothing seen here speaks against it" in section["statement"]
    assert section["guarantee"]["accepted"] == found.guarantee.accepted
    assert summary["provenance"]["confidence"]["temperature"] == found.temperature
    with (tmp_path / "out/s/predictions.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert ",".join(lines[0]) == "row,id,x,y,label,confidence,runner_up,critical,review"
    accepted = [line for line in lines if line["review"] == "0"]
    assert len(accepted) == section["accepted"] > 10
    assert min(float(line["confidence"]) for line in accepted) >= found.guarantee.threshold - 1e-6
    assert {line["critical"] for line in accepted} == {"0"}
    for line in lines:
        doubtful = float(line["confidence"]) < found.guarantee.threshold
        assert (line["review"] == "1") == (doubtful or line["critical"] == "1")
    assert "accepted: at least 70 % of the accepted cells are right" in result.stdout
    assert f"temperature {found.temperature:.3f}" in result.stderr


def test_confidences_and_probabilities_are_calibrated_and_labels_are_not_changed(tmp_path, bundle):
    archive = write_crops(tmp_path / "s.h5", draw_crops(50, seed=1))
    classify(tmp_path, archive)
    write_bundle(tmp_path / "raw/bundle")
    classify(tmp_path / "raw", archive)
    with h5py.File(tmp_path / "out/s/predictions.h5") as file:
        calibrated, logits = file["probabilities"][:], file["logits"][:]
        assert file.attrs["confidence"].startswith("calibrated: softmax of the logits divided by")
    with h5py.File(tmp_path / "raw/out/s/predictions.h5") as file:
        assert np.array_equal(file["logits"][:], logits)
        raw = file["probabilities"][:]
        assert file.attrs["confidence"] == "raw: softmax of the logits"
    assert np.array_equal(raw.argmax(axis=1), calibrated.argmax(axis=1))
    assert (calibrated.max(axis=1) < raw.max(axis=1)).mean() > 0.9  # it was too bold
    section = summary_of(tmp_path / "raw/out/s")["confidence"]
    assert (section["column"], section["threshold"], section["supported"]) == ("raw", 0.5, False)
    assert section["statement"].startswith("not calibrated")
    assert section["shift"] is None


def test_cells_unlike_the_calibration_cells_are_told_at_the_terminal_and_in_the_summary(
    tmp_path, bundle
):
    dark = [crop // 8 for crop in draw_crops(300, seed=2)]
    result = classify(tmp_path, write_crops(tmp_path / "s.h5", dark))
    assert result.exit_code == 0
    section = summary_of(tmp_path / "out/s")["confidence"]
    assert section["shift"]["shifted"]
    assert not section["supported"]
    assert section["statement"].startswith("the guarantee is not supported here")
    assert "warning: s: the guarantee is not supported here" in result.stderr
    assert "the guarantee is not supported here" in result.stdout


def test_a_threshold_of_ones_own_goes_first_and_promises_nothing(tmp_path, bundle):
    archive = write_crops(tmp_path / "s.h5", draw_crops(100, seed=1))
    result = classify(tmp_path, archive, "--review-below", "0.3")
    section = summary_of(tmp_path / "out/s")["confidence"]
    assert (section["threshold"], section["threshold_from"]) == (0.3, "user")
    assert (section["column"], section["guarantee"], section["supported"]) == (
        "calibrated", None, False,
    )  # fmt: skip
    assert "the user's own" in section["statement"]
    assert "accepted from 0.3 up, of which nothing is promised" in result.stderr


def test_what_could_not_be_promised_at_export_is_said(tmp_path):
    write_bundle(tmp_path / "bundle", calibration=draw_calibration(accuracy=0.999))
    result = classify(tmp_path, write_crops(tmp_path / "s.h5", draw_crops(100, seed=1)))
    section = summary_of(tmp_path / "out/s")["confidence"]
    assert (section["threshold"], section["threshold_from"]) == (0.5, "default")
    assert section["column"] == "calibrated"
    assert "nothing is promised of accepted cells: " in section["statement"]
    assert "no threshold is promised" in result.stderr


def test_an_archive_without_a_readable_crop_is_summed_up(tmp_path, bundle):
    archive = write_crops(tmp_path / "s.h5", draw_crops(3), damaged=[0, 1, 2])
    assert classify(tmp_path, archive).exit_code == 3
    section = summary_of(tmp_path / "out/s")["confidence"]
    assert (section["shift"], section["accepted"], section["supported"]) == (None, 0, False)
    assert section["statement"].endswith("no cell was classified")


def test_shards_merge_to_the_same_bytes_and_the_same_promise(tmp_path, make_session, model,
                                                             monkeypatch):  # fmt: skip
    write_crops(tmp_path / "in/a.h5", draw_crops(200, seed=4))

    def run(out: str, shard: str | None = None) -> int:
        session = make_session(calibration=model)
        monkeypatch.setattr(job, "open_session", lambda _: nullcontext(session))
        return job.run_job(
            ClassifyOptions(
                archives=(tmp_path / "in",),
                bundle=tmp_path / "bundle",
                out=tmp_path / out,
                batch_size=4,
                shard=Shard.parse(shard) if shard else None,
            )
        )

    run("whole")
    for index in (1, 2):
        run("parts", f"{index}/2")
    assert run_merge(tmp_path / "parts") == 0
    whole, merged = (summary_of(tmp_path / out / "a") for out in ("whole", "parts"))
    assert whole["confidence"]["threshold_from"] == "bundle"
    assert {**whole, "run": None} == {**merged, "run": None}
    for name in ("predictions.csv", "predictions.h5"):
        first, second = (tmp_path / out / "a" / name for out in ("whole", "parts"))
        assert first.read_bytes() == second.read_bytes()


def test_another_calibration_is_another_result(tmp_path, bundle):
    classify(tmp_path, write_crops(tmp_path / "s.h5", draw_crops(20, seed=1)))
    summary = Summary.read(tmp_path / "out/s/summary.json")
    assert summary is not None
    assert result_changes(summary, summary) == ()
    for change in ({"temperature": 3.0}, {"column": "raw"}, {"threshold_from": "user"}):
        rule = summary.provenance.confidence.model_copy(update=change)
        provenance = summary.provenance.model_copy(update={"confidence": rule})
        other = summary.model_copy(update={"provenance": provenance})
        assert result_changes(summary, other) == ("the calibration",)


def test_results_of_a_version_before_calibration_are_still_read(tmp_path):
    write_bundle(tmp_path / "bundle")
    archive = write_crops(tmp_path / "s.h5", draw_crops(20, seed=1))
    classify(tmp_path, archive)
    path = tmp_path / "out/s/summary.json"
    older = json.loads(path.read_text())
    del older["confidence"], older["provenance"]["confidence"]
    path.write_text(json.dumps(older))
    result = classify(tmp_path, archive)
    assert result.exit_code == 0
    assert "finished before" in result.stderr


def test_the_rule_is_the_users_then_the_bundles_then_one_half(model):
    weak = draw_calibration(80)
    bundles = model.calibration.guarantee.threshold
    temperature = model.calibration.temperature
    assert choose_rule(None, None) == (ConfidenceRule(), 0.5)
    assert choose_rule(None, 0.7) == (ConfidenceRule(threshold_from="user"), 0.7)
    assert choose_rule(model, None) == (
        ConfidenceRule(column="calibrated", temperature=temperature, threshold_from="bundle"),
        bundles,
    )
    assert choose_rule(model, 0.7)[1] == 0.7
    assert choose_rule(weak, None)[1] == 0.5
    assert choose_rule(weak, None)[0].column == "calibrated"


def test_a_calibration_of_another_engine_is_not_borrowed(tmp_path):
    other = draw_calibration().model_copy(update={"engine": "openvino"})
    write_bundle(tmp_path / "bundle", calibration=other)
    result = classify(tmp_path, write_crops(tmp_path / "s.h5", draw_crops(20, seed=1)))
    assert summary_of(tmp_path / "out/s")["confidence"]["column"] == "raw"
    assert "not calibrated" in result.stderr


def test_a_calibration_is_sealed_with_the_bundle(tmp_path, bundle):
    assert load_confidence(open_bundle(bundle)) is not None
    path = bundle / CONFIDENCE_NAME
    path.write_text(path.read_text().replace('"threshold": 0.', '"threshold": 0.0'))
    with pytest.raises(BundleError):
        open_bundle(bundle)


def test_a_stray_calibration_is_none_of_the_bundles(tmp_path, model):
    write_bundle(tmp_path / "with", calibration=model)
    bare = write_bundle(tmp_path / "bare")
    (bare / CONFIDENCE_NAME).write_bytes((tmp_path / "with" / CONFIDENCE_NAME).read_bytes())
    assert load_confidence(open_bundle(bare)) is None
