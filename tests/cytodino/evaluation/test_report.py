import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from cytodino.errors import InputError
from cytodino.evaluation import Evaluation
from cytodino.evaluation_report import write_report
from cytodino.taxonomy import CODES
from tests.cytodino.evaluation.painted_model import codes_of


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
