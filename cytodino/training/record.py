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
from cytodino.recipe import Recipe
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
    backbone: str
    groups: Path | None = None
    split: tuple[SplitTable, ...] = ()


def differences(manifest: RunManifest, cells: CellSource, asked: Asked) -> list[str]:
    """Say in what a finished run is another than the one that is asked for.

    A backbone that is a folder is told by its name: it may have been named from elsewhere.
    """
    recorded = manifest.split
    tables = [_describe(path, part) for part, path in asked.split]
    groups = [] if asked.groups is None else [_describe(asked.groups, None)]
    before = [recorded.groups, *recorded.files] if recorded else []
    same = {
        "recipe": manifest.recipe == asked.recipe,
        "backbone": Path(manifest.backbone.source).name == Path(asked.backbone).name,
        "set of cells": manifest.data is not None
        and manifest.data.fingerprint == cells.fingerprint(),
        "division of the cells": [(one.part, one.sha256) for one in before if one]
        == [(one.part, one.sha256) for one in (*groups, *tables)],
    }
    return [what for what, is_same in same.items() if not is_same]


def _describe(table: Path, part: str | None) -> TableRecord:
    return TableRecord(path=str(table.resolve()), sha256=hash_file(table), part=part)


def _versions() -> dict[str, str]:
    own = {"python": platform.python_version(), "cytodino": __version__}
    return own | {library: version(library) for library in _LIBRARIES}
