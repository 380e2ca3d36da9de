"""What a finished training leaves on record in `run.json`."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cytodino import __version__
from cytodino.cells import CellSource
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.loading import describe_head
from cytodino.modeling.preprocessing import MEAN, STD
from cytodino.paths import hash_file
from cytodino.recipe import SHAPES, Recipe
from cytodino.run_manifest import (
    BackboneRecord,
    DataRecord,
    LoraRecord,
    PartMetrics,
    RunManifest,
    SplitRecord,
    TableRecord,
)
from cytodino.training.course import BestEpoch
from cytodino.training.parts import DividedCells
from cytodino.training.split import FRACTIONS
from cytodino.training.tables import SplitTable

_LIBRARIES = (
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "accelerate",
    "kornia",
    "safetensors",
    "numpy",
)


def compose_manifest(
    model: CytoDino,
    backbone: BackboneRecord,
    divided: DividedCells,
    *,
    recipe: Recipe,
    course: BestEpoch,
    metrics: dict[str, PartMetrics],
    parameters: tuple[int, int],
    device: str,
    seconds: float,
    groups: Path | None = None,
    split: Sequence[SplitTable] = (),
) -> RunManifest:
    """Gather `run.json` from what was used and what came out."""
    lora = LoraRecord(rank=recipe.lora_rank, alpha=recipe.lora_alpha, dropout=recipe.lora_dropout)
    return RunManifest(
        created=datetime.now(UTC).replace(microsecond=0),
        image_size=recipe.image_size,
        mean=MEAN,
        std=STD,
        tune=recipe.tune,
        backbone=backbone,
        lora=lora if recipe.tune == "lora" else None,
        head=describe_head(model.head),
        recipe=recipe,
        data=DataRecord(
            path=str(divided.cells.path.resolve()),
            kind=divided.cells.kind,
            fingerprint=divided.cells.fingerprint(),
            n=len(divided.cells),
        ),
        split=SplitRecord(
            seed=recipe.seed,
            fractions=FRACTIONS,
            rule=divided.rule,
            counts=divided.counts(),
            groups=None if groups is None else _describe(groups, None),
            files=tuple(_describe(path, part) for part, path in split),
        ),
        parameters=parameters,
        best_epoch=course.best,
        history=tuple(course.history),
        metrics=metrics,
        seconds=round(seconds, 1),
        device=device,
        versions=_versions(),
    )


@dataclass(frozen=True)
class Asked:
    """What a training is asked for, beside its cells."""

    recipe: Recipe
    """Every setting, the seed too."""
    backbone: str
    """Hub id, folder, run, or the name of a configuration, as it was typed."""
    groups: Path | None = None
    """Table of patients or slides that are kept whole."""
    split: tuple[SplitTable, ...] = ()
    """Tables of images and parts that are followed, in any order."""


def differences(manifest: RunManifest, cells: CellSource, asked: Asked) -> list[str]:
    """Say in what a finished run is another than the one that is asked for.

    Tables are told by what is in them, a backbone that is a folder or a run by where it lies.

    Parameters
    ----------
    manifest : RunManifest
        Of the finished run.
    cells : CellSource
        Those that are asked for.
    asked : Asked

    Returns
    -------
    list of str
        Of "recipe", "backbone", "set of cells" and "division of the cells" those that are others;
        empty if it is the run that is asked for.

    Raises
    ------
    OSError
        If a table cannot be read.
    """
    recorded = manifest.split
    before = (recorded.groups, recorded.files) if recorded else (None, ())
    groups = None if asked.groups is None else _describe(asked.groups, None)
    now = (groups, tuple(_describe(path, part) for part, path in asked.split))
    same = {
        "recipe": manifest.recipe == asked.recipe,
        "backbone": _is_same_backbone(manifest.backbone, asked.backbone),
        "set of cells": manifest.data is not None
        and manifest.data.fingerprint == cells.fingerprint(),
        "division of the cells": _contents(*before) == _contents(*now),
    }
    return [what for what, is_same in same.items() if not is_same]


def _is_same_backbone(recorded: BackboneRecord, asked: str) -> bool:
    if recorded.kind in ("hub", "random") or asked in SHAPES:
        return recorded.source == asked
    if recorded.path is None:  # written before a run's path was
        return Path(recorded.source).name == Path(asked).name
    return Path(recorded.path) == Path(asked).resolve()


def _contents(
    groups: TableRecord | None, files: Sequence[TableRecord]
) -> tuple[str | None, list[tuple[str, str]]]:
    """Tell a division by what its tables hold, in whichever order they were named."""
    found = sorted((table.part or "", table.sha256) for table in files)
    return None if groups is None else groups.sha256, found


def _describe(table: Path, part: str | None) -> TableRecord:
    return TableRecord(path=str(table.resolve()), sha256=hash_file(table), part=part)


def _versions() -> dict[str, str]:
    own = {"python": platform.python_version(), "cytodino": __version__}
    return own | {library: version(library) for library in _LIBRARIES}
