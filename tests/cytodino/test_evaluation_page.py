import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cytodino.bootstrap import bootstrap_scores
from cytodino.calibration import Calibration, Targets, calibrate
from cytodino.calibration.evidence import weigh_confidence
from cytodino.calibration.file import ModelCalibration
from cytodino.calibration.threshold import Guarantee, score_cells
from cytodino.confusion_picture import draw_confusion
from cytodino.engines.base import EngineDescription
from cytodino.evaluation import Evaluation, Provenance
from cytodino.evaluation_page import evaluation_page
from cytodino.evaluation_report import write_report
from cytodino.machine import describe_machine
from cytodino.metrics import confusion, score_confusion
from cytodino.statistics import softmax


def draw_logits(n: int, seed: int, *, boldness: float = 1.8) -> tuple[np.ndarray, np.ndarray]:
    """Logits bolder than they should be for their labels, of classes of very different size."""
    generator = np.random.default_rng(seed)
    shares = np.geomspace(1, 0.002, 21)
    truth = generator.choice(21, n, p=shares / shares.sum())
    logits = generator.normal(0, 1.0, (n, 21)) + np.log(shares)
    logits[np.arange(n), truth] += generator.normal(7, 3, n)
    labels = (softmax(logits).cumsum(axis=1) > generator.random((n, 1))).argmax(axis=1)
    return (boldness * logits).astype(np.float32), labels.astype(np.int64)


def fit(n: int = 3000, **targets: float) -> Calibration:
    logits, labels = draw_logits(n, 1)
    return calibrate(logits, labels, [str(at) for at in range(n)], Targets(**targets))


def draw_evaluation(calibration: Calibration | None, *, n: int = 2000, seed: int = 2) -> Evaluation:
    logits, labels = draw_logits(n, seed)
    model = calibration and ModelCalibration(
        variant="fp32", engine="pytorch", provider="cpu", machine="m", calibration=calibration
    )
    predictions = logits.argmax(axis=1)
    matrix = confusion(labels, predictions)
    guarantee = calibration.guarantee if calibration else None
    temperature = calibration.temperature if calibration else 1.0
    scores = score_cells(logits, temperature)
    return Evaluation(
        scores=score_confusion(matrix),
        provenance=Provenance(
            model="runs/<script>alert(1)</script>",
            model_kind="run",
            model_sha256="a" * 64,
            engine=EngineDescription(
                engine="pytorch", variant="fp32", device="cpu", provider="cpu", version="2",
                options={},
            ),
            batch_size=32,
            data="cells",
            data_kind="folder",
            data_fingerprint="b" * 64,
            part="test",
            machine=describe_machine(),
            finished="2025-01-01T00:00:00+00:00",
        ),
        confusion=matrix,
        ids=tuple(str(at) for at in range(n)),
        labels=labels,
        predictions=predictions,
        confidences=softmax(logits / temperature).max(axis=1),
        accepted=None if guarantee is None else scores >= guarantee.threshold,
        intervals=bootstrap_scores(matrix),
        confidence=weigh_confidence(logits, labels, model),
    )  # fmt: skip


def page_of(evaluation: Evaluation) -> str:
    picture = draw_confusion(evaluation.confusion, title="t")
    return evaluation_page(evaluation, title="run on cells, test part", picture=picture)


class Balance(HTMLParser):
    """Fails on elements that do not close in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, name: str, attributes: object) -> None:
        if name != "meta":
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: object) -> None:
        pass

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name


@pytest.fixture(scope="module")
def calibrated() -> Calibration:
    return fit()


@pytest.mark.parametrize("kind", ["calibrated", "refused", "raw"])
def test_the_page_is_whole_and_loads_nothing_from_anywhere(kind, calibrated):
    fitted = {"calibrated": calibrated, "refused": fit(100), "raw": None}[kind]
    page = page_of(draw_evaluation(fitted))
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not re.findall(r"url\(|@import|https?:", page)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower().replace("provenance", "")


def test_the_page_says_what_was_promised_and_what_came_of_it(calibrated):
    evaluation = draw_evaluation(calibrated)
    page = page_of(evaluation)
    accepted = evaluation.confidence.accepted
    assert isinstance(calibrated.review, Guarantee)
    assert accepted is not None
    assert f"{accepted.accepted} cells are" in page
    assert "at least 95 % of the accepted cells are right" in page
    assert "Reliability, raw" in page
    assert "Reliability, calibrated" in page
    for score in (evaluation.scores.weighted_f1, evaluation.scores.macro_f1_supported):
        assert f"{100 * score:.1f}" in page
    for pair in evaluation.scores.critical_errors.pairs:
        assert f">{pair.true}</abbr> called" in page


def test_a_page_without_a_promise_says_so(calibrated):
    assert "Not calibrated: nothing is promised" in page_of(draw_evaluation(None))
    assert "No threshold is promised: " in page_of(draw_evaluation(fit(100)))


def test_shifted_cells_are_told_at_the_top_of_the_section(calibrated):
    evaluation = draw_evaluation(calibrated)
    logits, labels = draw_logits(500, 3, boldness=0.9)
    model = ModelCalibration(variant="fp32", engine="pytorch", provider="cpu", machine="m",
                             calibration=calibrated)  # fmt: skip
    evidence = weigh_confidence(logits, labels, model)
    assert evidence.shift is not None
    assert evidence.shift.shifted
    object.__setattr__(evaluation, "confidence", evidence)
    assert "The guarantee is not supported on these cells" in page_of(evaluation)


def test_the_report_has_all_of_it_as_json_too(calibrated, tmp_path: Path):
    evaluation = draw_evaluation(calibrated)
    write_report(evaluation, tmp_path / "out")
    found = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert found["column"] == "calibrated"
    assert found["confidence"]["accepted"]["held"]
    assert (
        found["confidence"]["calibrated"]["reliability"]["ece"]
        < (found["confidence"]["raw"]["reliability"]["ece"])
    )
    low, high = found["intervals"]["weighted_f1"]
    assert low < found["scores"]["weighted_f1"] < high
    assert (tmp_path / "out/evaluation.html").read_text().startswith("<!doctype html>")
