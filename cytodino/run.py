"""The run folder: what `cytodino train` writes and export, evaluation and parity read; no torch.

A folder without `run.json` is no run: that file is written last, and whole.
"""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cytodino.errors import InputError, MissingPathError
from cytodino.metrics import Scores
from cytodino.recipe import Recipe, Tune
from cytodino.taxonomy import CODES, require_order

if TYPE_CHECKING:
    from cytodino.cells import CellSource

SCHEMA = 1
MANIFEST = "run.json"
SPLIT = "split.csv"
HEAD = "head.safetensors"
ADAPTER = "adapter"
BACKBONE = "backbone"
_NO_RUN = "give the folder that `cytodino train --out` wrote"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneRecord(_Record):
    """Which DINOv3 the run stands on, and how to tell it from another."""

    source: str
    """As it was asked for: Hub id, folder, run, or the name of a configuration."""
    kind: Literal["hub", "folder", "run", "random"]
    stored: bool
    """True if the weights lie in the run's own `backbone/`."""
    revision: str | None = None
    """Commit on the Hub, for kind hub."""
    path: str | None = None
    """Absolute, for kind folder: where the weights are read from, unless stored."""
    sha256: dict[str, str]
    """Of `config.json` and every file of weights, by name; checked whenever they are loaded."""


class LoraRecord(_Record):
    """The adapter in `adapter/`."""

    rank: int
    alpha: int
    dropout: float


class HeadRecord(_Record):
    """The shape of the decoder head in `head.safetensors`."""

    hidden: int
    layers: int
    heads: int
    feedforward: int
    dropout: float


class DataRecord(_Record):
    """The cells that were trained on."""

    path: str
    """Absolute."""
    kind: Literal["folder", "archive"]
    fingerprint: str
    """See `CellSource.fingerprint`: the same cells give the same one."""
    n: int


class SplitRecord(_Record):
    """How the cells were divided; which cell went where stands in `split.csv`."""

    seed: int
    fractions: dict[str, float]
    """Share asked for, by part."""
    rule: str
    """What was done with classes too small for all parts."""
    counts: dict[str, dict[str, int]]
    """Cells by part and class code."""


class PartMetrics(_Record):
    """What the finished model scores on one part."""

    loss: float
    """Mean cross-entropy, nats."""
    scores: Scores


class EpochRecord(_Record):
    """One line of the training's course."""

    epoch: int
    """From 1."""
    train_loss: float
    validation_loss: float
    weighted_f1: float
    """On the validation part, as are macro F1 and accuracy."""
    macro_f1: float
    accuracy: float


class RunManifest(_Record):
    """`run.json`."""

    schema_version: int = SCHEMA
    created: datetime
    """UTC."""
    classes: tuple[str, ...] = CODES
    """In the order of the logits."""
    image_size: int = Field(ge=16)
    """Side of the square the model sees, pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tune: Tune
    backbone: BackboneRecord
    lora: LoraRecord | None
    head: HeadRecord
    recipe: Recipe
    data: DataRecord
    split: SplitRecord
    parameters: tuple[int, int]
    """How many were trained, of how many."""
    best_epoch: int
    """From 1; the highest weighted F1 on the validation part."""
    history: tuple[EpochRecord, ...]
    metrics: dict[str, PartMetrics]
    """Of the best epoch, by part: validation, and test, which is looked at once, at the end."""
    seconds: float
    """Wall time of the whole training."""
    device: str
    versions: dict[str, str]
    """Of Python, CytoDINO and the libraries that took part."""

    @field_validator("classes")
    @classmethod
    def _known_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        require_order(value, where=MANIFEST)
        return value


@dataclass(frozen=True)
class Run:
    """A finished run on disk."""

    path: Path
    """The folder."""
    manifest: RunManifest
    split: Mapping[str, Sequence[str]]
    """Cell ids by part: train, validation, test."""

    @property
    def adapter_path(self) -> Path:
        """Where the LoRA adapter lies, if the run has one."""
        return self.path / ADAPTER

    @property
    def head_path(self) -> Path:
        """Where the head's weights lie."""
        return self.path / HEAD

    @property
    def backbone_path(self) -> Path:
        """Where the backbone lies, if it is stored in the run."""
        return self.path / BACKBONE

    def open_cells(self) -> "CellSource":
        """Open the cells that the run was trained on, from where they were.

        Raises
        ------
        MissingPathError
            If they are gone.
        InputError
            If they are not the same cells any more.
        """
        from cytodino.cells import open_cells

        path = Path(self.manifest.data.path)
        if not path.exists():
            raise MissingPathError(
                path, mend="put the cells of this run back, or name others by option"
            )
        cells = open_cells(path)
        if cells.fingerprint() != self.manifest.data.fingerprint:
            raise InputError(
                "the cells have changed since the run was trained",
                where=path,
                mend="put the cells of this run back, or name others by option",
            )
        return cells

    def rows(self, cells: "CellSource", part: str) -> np.ndarray:
        """Return where the cells of one part lie in a source: int64, (n,), in the split's order.

        Raises
        ------
        InputError
            If the run has no such part, or the source lacks some of its cells.
        """
        if part not in self.split:
            raise InputError(
                f"the run has no part {part!r}",
                where=self.path,
                mend=f"choose from {', '.join(self.split)}",
            )
        where = {name: row for row, name in enumerate(cells.ids)}
        absent = [name for name in self.split[part] if name not in where]
        if absent:
            raise InputError(
                f"{len(absent)} cells of the run's {part} part are not there, first: {absent[0]}",
                where=cells.path,
                mend="give the cells that the run was trained on",
            )
        return np.array([where[name] for name in self.split[part]], dtype=np.int64)


def open_run(path: Path) -> Run:
    """Open a run folder and check that it is whole and of a schema known here.

    Raises
    ------
    MissingPathError
        If there is nothing at the path.
    InputError
        If it is no run, is damaged, or was written by a newer version.
    """
    if not path.exists():
        raise MissingPathError(path, mend=_NO_RUN)
    if not (path / MANIFEST).is_file():
        raise InputError(f"is no run: it has no {MANIFEST}", where=path, mend=_NO_RUN)
    manifest = _read_manifest(path / MANIFEST)
    needed = [HEAD, *([ADAPTER] if manifest.lora else [])]
    needed += [BACKBONE] if manifest.backbone.stored else []
    for name in needed:
        if not (path / name).exists():
            raise InputError(f"{name} is missing", where=path, mend="copy the run again, whole")
    return Run(path, manifest, _read_split(path / SPLIT))


def write_manifest(path: Path, manifest: RunManifest) -> None:
    """Write `run.json` into a run folder, whole or not at all: the last thing a training does."""
    partial = path / f"{MANIFEST}.partial"
    partial.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path / MANIFEST)


def write_split(path: Path, ids: Sequence[str], parts: Sequence[str]) -> None:
    """Write `split.csv` into a run folder: header `id,part`, one line a cell."""
    with (path / SPLIT).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "part"))
        writer.writerows(zip(ids, parts, strict=True))


def _read_manifest(path: Path) -> RunManifest:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = int(content["schema_version"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("is damaged", where=path, mend="copy the run again, whole") from error
    if schema > SCHEMA:
        raise InputError(
            f"has schema {schema}, newer than {SCHEMA}", where=path, mend="upgrade cytodino"
        )
    try:
        return RunManifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        raise InputError(
            f"{field}: {first['msg']}", where=path, mend="copy the run again, whole"
        ) from error


def _read_split(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise InputError(f"{SPLIT} is missing", where=path.parent, mend="copy the run again, whole")
    split: dict[str, list[str]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if next(reader, None) != ["id", "part"]:
            raise InputError(
                "does not begin with id,part", where=path, mend="copy the run again, whole"
            )
        for name, part in reader:
            split.setdefault(part, []).append(name)
    return split
