"""An evaluation as a folder of files: scores, confusion matrix, picture, and cell by cell."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from cytodino.confusion_picture import draw_confusion
from cytodino.errors import InputError
from cytodino.evaluation import Evaluation
from cytodino.evaluation_page import evaluation_page
from cytodino.paths import whole_folder
from cytodino.taxonomy import CODES

__all__ = ["require_free", "write_report"]

COLUMNS = ("id", "label", "predicted", "confidence")


def require_free(out: Path) -> None:
    """Refuse a place where something lies that the report would replace or mix with.

    Raises
    ------
    InputError
        If `out` is a file, or a folder that is not empty.
    """
    if out.is_dir() and any(out.iterdir()):
        raise InputError("the folder is not empty", where=out, mend="name a new one with --out")
    if out.exists() and not out.is_dir():
        raise InputError("this is a file", where=out, mend="name a new folder with --out")


def write_report(evaluation: Evaluation, out: Path) -> None:
    """Write evaluation.json and .html, confusion.json and .png, predictions.csv, all or nothing.

    Parameters
    ----------
    evaluation : Evaluation
    out : Path
        A folder that is empty, or not there yet. It is filled when all is written.

    Raises
    ------
    InputError
        If the folder is not empty, is a file, or cannot be written.
    """
    require_free(out)
    try:
        with whole_folder(out.resolve()) as folder:
            _write_files(evaluation, folder)
    except OSError as error:
        raise InputError(
            f"the report cannot be written ({error.strerror})",
            where=out,
            mend="choose a folder that can be written with --out",
        ) from error


def _write_files(evaluation: Evaluation, folder: Path) -> None:
    summary = {
        "scores": evaluation.scores.model_dump(mode="json"),
        "intervals": evaluation.intervals.model_dump(mode="json"),
        "confidence": evaluation.confidence.model_dump(mode="json"),
        "column": "raw" if evaluation.confidence.calibrated is None else "calibrated",
        "provenance": evaluation.provenance.model_dump(mode="json"),
    }
    _write_json(folder / "evaluation.json", summary)
    _write_json(
        folder / "confusion.json",
        {
            "rows": "true class",
            "columns": "predicted class",
            "classes": list(CODES),
            "counts": evaluation.confusion.tolist(),
        },
    )
    picture = draw_confusion(
        evaluation.confusion, title=title_of(evaluation), subtitle=subtitle_of(evaluation)
    )
    picture.save(folder / "confusion.png")
    page = evaluation_page(evaluation, title=title_of(evaluation), picture=picture)
    (folder / "evaluation.html").write_text(page, encoding="utf-8")
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(_lines(evaluation))


def _lines(evaluation: Evaluation) -> list[Sequence[str]]:
    return [
        (name, CODES[label], CODES[predicted], f"{confidence:.6f}")
        for name, label, predicted, confidence in zip(
            evaluation.ids,
            evaluation.labels,
            evaluation.predictions,
            evaluation.confidences,
            strict=True,
        )
    ]


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def title_of(evaluation: Evaluation) -> str:
    """Say in one line what was scored on what."""
    about = evaluation.provenance
    part = "all cells" if about.part == "all" else f"{about.part} part"
    model, data = Path(about.model).name, Path(about.data).name
    return f"{model} on {data}, {part}"


def subtitle_of(evaluation: Evaluation) -> str:
    """Say in one line how it went."""
    scores = evaluation.scores
    errors = scores.critical_errors
    return " · ".join(
        (
            f"{scores.n} cells",
            f"accuracy {scores.accuracy:.1%}",
            f"weighted F1 {scores.weighted_f1:.1%}",
            f"macro F1 {scores.macro_f1:.1%} ({scores.macro_f1_classes} classes)",
            f"critical errors {errors.count} of {errors.critical_cells}",
        )
    )
