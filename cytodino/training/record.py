"""What a finished training leaves on record in `run.json`."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version

from cytodino import __version__
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.loading import describe_head
from cytodino.modeling.preprocessing import MEAN, STD
from cytodino.recipe import Recipe
from cytodino.run_manifest import (
    BackboneRecord,
    DataRecord,
    LoraRecord,
    PartMetrics,
    RunManifest,
    SplitRecord,
)
from cytodino.training.fitting import BestEpoch
from cytodino.training.parts import DividedCells
from cytodino.training.split import FRACTIONS, RULE

_LIBRARIES = ("torch", "torchvision", "transformers", "peft", "accelerate", "safetensors", "numpy")


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
            seed=recipe.seed, fractions=FRACTIONS, rule=RULE, counts=divided.counts()
        ),
        parameters=parameters,
        best_epoch=course.best,
        history=tuple(course.history),
        metrics=metrics,
        seconds=round(seconds, 1),
        device=device,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    own = {"python": platform.python_version(), "cytodino": __version__}
    return own | {library: version(library) for library in _LIBRARIES}
