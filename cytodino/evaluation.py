"""A run or a bundle held against labelled cells.

A run is evaluated in PyTorch, a bundle on any engine that it has. Cells that the model was trained
on flatter it: where the cells given are the run's own, only its untouched test part is scored
unless another part is named.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.bootstrap import Intervals, bootstrap_scores
from cytodino.calibration.evidence import ConfidenceEvidence, weigh_confidence
from cytodino.calibration.temperature import soften
from cytodino.calibration.threshold import score_cells
from cytodino.engines.base import EngineDescription
from cytodino.errors import InputError
from cytodino.evaluated_model import EvaluatedModel, open_model
from cytodino.inference import predict_cells
from cytodino.machine import Machine, describe_machine
from cytodino.metrics import Scores, confusion, score_confusion
from cytodino.run_parts import parts_in

if TYPE_CHECKING:
    from cytodino.archive.options import ReadOptions
    from cytodino.cells import CellSource

__all__ = ["PARTS", "Evaluation", "Part", "Provenance", "evaluate"]

Part = Literal["train", "validation", "calibration", "test", "all"]
PARTS: tuple[Part, ...] = get_args(Part)


class Provenance(BaseModel):
    """What was scored, on which cells, with what."""

    model_config = ConfigDict(frozen=True)

    model: str
    """Path of the run or bundle, as given."""
    model_kind: Literal["run", "bundle"]
    model_sha256: str
    """Bundle: of its manifest, which holds every file's. Run: of run.json and the weights."""
    engine: EngineDescription
    batch_size: int
    data: str
    """Path of the image folder or archive, as given."""
    data_kind: str
    data_fingerprint: str
    """sha256 over the ids, labels and checksums of all its cells."""
    read: dict[str, str] = {}
    """How an archive was read that does not say it itself, by option."""
    part: Part
    """Which of them were scored."""
    machine: Machine
    finished: str
    """ISO 8601, UTC."""


@dataclass(frozen=True)
class Evaluation:
    """Scores, and what they were read off, cell by cell."""

    scores: Scores
    provenance: Provenance
    confusion: NDArray[np.int64]
    """(21, 21), rows the true class, columns the predicted one."""
    ids: tuple[str, ...]
    """One a cell, as the folder or archive names it."""
    labels: NDArray[np.int64]
    """(n,), class indices."""
    predictions: NDArray[np.int64]
    """(n,), class indices."""
    confidences: NDArray[np.float64]
    """(n,), the predicted class's probability, calibrated where the model is."""
    accepted: NDArray[np.bool_] | None
    """(n,), whether the model's guaranteed threshold accepts each; None without one."""
    intervals: Intervals
    confidence: ConfidenceEvidence


def evaluate(
    model: Path,
    data: Path,
    *,
    part: Part | None = None,
    engine: str = "auto",
    variant: str = "auto",
    device: str = "auto",
    batch_size: int = 32,
    read: "ReadOptions | None" = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Classify labelled cells and score the answers.

    Parameters
    ----------
    model : Path
        A run (evaluated in PyTorch) or a bundle.
    data : Path
        An image folder or an archive, labelled.
    part : {"train", "validation", "calibration", "test", "all"}, optional
        Which part of the run's split; by default the test part of the run's own cells, and all
        of any others.
    engine, variant, device : str
        As `cytodino.engines.open_engine` takes them; a run has PyTorch in fp32 only.
    batch_size : int
        Most crops in one call.
    read : ReadOptions, optional
        How an archive is read that does not say it itself.
    say : callable, optional
        Takes sentences for the person who waits, such as which part was chosen.
    progress : callable, optional
        Takes the number of cells just done and the number of all, after each batch.

    Raises
    ------
    InputError
        If model or data cannot be used, a cell has no label, the part is not to be had, or a
        crop cannot be read (`CropError`, with its path or row).
    BundleError, EngineError
        If the bundle is damaged, or the engine cannot be had or fails.
    """
    from cytodino.cells import open_cells, require_labels

    say = say or (lambda _: None)
    opened = open_model(model, engine, variant, device)
    cells = open_cells(data, read)
    labels = require_labels(cells)
    fingerprint = cells.fingerprint()
    part, indices = _choose_part(opened, cells, fingerprint, part, say)
    labels = labels[indices]
    with opened.open() as running:
        description = running.describe()
        for warning in description.warnings:
            say(f"warning: {warning}")
        logits = predict_cells(
            running,
            cells,
            indices,
            batch_size=batch_size,
            progress=None if progress is None else lambda done: progress(done, len(indices)),
        )
    predictions = logits.argmax(axis=1).astype(np.int64)
    matrix = confusion(labels, predictions)
    model_calibration = opened.calibration(description)
    fitted = None if model_calibration is None else model_calibration.calibration
    temperature = 1.0 if fitted is None else fitted.temperature
    guarantee = None if fitted is None else fitted.guarantee
    return Evaluation(
        scores=score_confusion(matrix),
        provenance=Provenance(
            model=str(model),
            model_kind=opened.kind,
            model_sha256=opened.sha256,
            engine=description,
            batch_size=batch_size,
            data=str(data),
            data_kind=cells.kind,
            data_fingerprint=fingerprint,
            read=read.given() if read is not None else {},
            part=part,
            machine=describe_machine(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        confusion=matrix,
        ids=tuple(cells.ids[int(index)] for index in indices),
        labels=labels,
        predictions=predictions,
        confidences=soften(logits, temperature).max(axis=1),
        accepted=(
            None if guarantee is None else score_cells(logits, temperature) >= guarantee.threshold
        ),
        intervals=bootstrap_scores(matrix),
        confidence=weigh_confidence(logits, labels, model_calibration),
    )


def _choose_part(
    model: EvaluatedModel,
    cells: "CellSource",
    fingerprint: str,
    part: Part | None,
    say: Callable[[str], None],
) -> tuple[Part, NDArray[np.int64]]:
    own = model.trained_on == fingerprint
    if part is None and own and model.run is not None:
        say(
            f"{cells.path} is what the run was trained on: scoring its untouched test part "
            "(--part chooses another)"
        )
        part = "test"
    if part is None or part == "all":
        _warn_of_training_cells(model, cells, own, say)
        return "all", np.arange(len(cells))
    if model.run is None:
        raise InputError(
            "a bundle does not hold the split of its run",
            where=model.path,
            mend=f"give the run for --part {part}, or a folder of that part's cells",
        )
    if part == "calibration" and model.confidence is not None:
        say("warning: confidence was calibrated on these cells; what is said of it here flatters")
    return part, np.sort(model.run.rows(cells, part))


def _warn_of_training_cells(
    model: EvaluatedModel, cells: "CellSource", own: bool, say: Callable[[str], None]
) -> None:
    flatter = "scores on those flatter"
    if model.run is None:
        if own:
            say(
                f"warning: the model was trained on a part of {cells.path}; {flatter} "
                "(give the run to score its test part)"
            )
        return
    known = int(np.isin(parts_in(model.run, cells), ("train", "validation")).sum())
    if known:
        say(
            f"warning: the run was trained or chosen on {known} of these {len(cells)} cells; "
            f"{flatter}"
        )
