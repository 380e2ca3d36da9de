"""`cytodino train`: from labelled cells to a run."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cytodino.console import FiniteRange
from cytodino.errors import MissingExtraError
from cytodino.parts import PARTS

if TYPE_CHECKING:
    from cytodino.recipe import Recipe, RecipeName, Tune

_LIBRARIES = ("torch", "torchvision", "transformers", "peft", "accelerate", "kornia")
MOST_CELLS = 65_536
"""Of a batch, and batches of a step: far more than any memory holds."""


def _split_tables(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str | None, Path]]:
    """Tell `PART=FILE` from a file alone, whatever signs are in its name."""
    tables: list[tuple[str | None, Path]] = []
    for value in values:
        part, equals, rest = value.partition("=")
        named = bool(equals) and part in PARTS
        tables.append((part, Path(rest)) if named else (None, Path(value)))
    return tables


@click.command()
@click.argument("data", metavar="IMAGES|ARCHIVE", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="New folder for the run.",
)
@click.option(
    "--backbone",
    metavar="HUB_ID|DIR|RUN|tiny|small|base|large",
    help="What to build on; a name alone is a configuration with random weights.  "
    "[default: facebook/dinov3-vitl16-pretrain-lvd1689m]",
)
@click.option(
    "--tune",
    type=click.Choice(["lora", "head", "full"]),
    help="Train an adapter and the head, the head alone, or every weight.  "
    "[default: full for random weights, else lora]",
)
@click.option(
    "--recipe",
    type=click.Choice(["cytodino", "plain"]),
    help="cytodino: as published, hierarchical focal loss, rare classes drawn more often, strong "
    "augmentation, early stopping. plain: cross-entropy.  [default: cytodino for lora on the Hub's "
    "or a folder's DINOv3, else plain]",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=16),
    metavar="PX",
    help="Side of the square that the model sees.  [default: that of RUN, else 256]",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Passes over the cells; cytodino sees each twice a pass, or more often.  [default: 16; "
    "cytodino: 8]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, MOST_CELLS),
    metavar="N",
    help="Cells at a time.  [default: 16; cytodino: 1]",
)
@click.option(
    "--accumulation",
    type=click.IntRange(1, MOST_CELLS),
    metavar="N",
    help="Batches that make one step: less memory for the same step.  [default: 1; cytodino: 4]",
)
@click.option(
    "--mixed-precision",
    type=click.Choice(["bf16", "fp16"]),
    help="Multiply matrices in half the bits; weights and loss stay float32.  [default: float32]",
)
@click.option(
    "--gradient-checkpointing",
    is_flag=True,
    default=None,
    help="Compute each block twice in place of keeping it: less memory, a third more time.",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop after N epochs without a better weighted F1.  [default: never; cytodino: 5]",
)
@click.option(
    "--learning-rate",
    type=FiniteRange(min=0, min_open=True),
    metavar="X",
    help="Peak of the schedule.  [default: 3e-4; full: 5e-4 from random weights, else 5e-5]",
)
@click.option(
    "--lora-rank", type=click.IntRange(min=1), metavar="R", help="Of the adapter.  [default: 64]"
)
@click.option(
    "--lora-alpha", type=click.IntRange(min=1), metavar="A", help="Of the adapter.  [default: 128]"
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    help="Of weights, split, order and augmentation.",
)
@click.option(
    "--groups",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Table of images and their patients or slides (name,group): a group is never divided "
    "among the parts.",
)
@click.option(
    "--split",
    multiple=True,
    callback=_split_tables,
    metavar="CSV|PART=CSV",
    help="Table of images and their parts (name,part), such as another run's split.csv, or, as "
    "train=FILE, of the images of one part; may be repeated. What it does not name is carved out "
    "of train.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with a training that was interrupted in RUN, to the same weights, or begin one; "
    "give the same data and options. A checkpoint is made after each epoch and every ten minutes.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Processes that load cells; the result is the same.  [default: 0 on a CPU, else up to 8]",
)
def train(
    data: Path,
    out: Path,
    backbone: str | None,
    groups: Path | None,
    split: list[tuple[str | None, Path]],
    resume: bool,
    device: str,
    workers: int | None,
    tune: "Tune | None",
    recipe: "RecipeName | None",
    **chosen: Any,
) -> None:
    """Train a classifier on an image folder or an archive, and write it as a run.

    The cells are divided by class into training (60 %), validation (10 %, chooses the epoch),
    calibration (10 %, kept for fitting confidences) and test part (20 %, scored once, at the end).
    A class with fewer than four cells serves training, test and validation first. Cells of the same
    pixels in different parts are refused.
    """
    _require_libraries()
    # Read by OpenMP when torch is first imported. Threads that spin while they wait made a step
    # eight times slower on a machine that had other work to do, and gain little on an idle one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from cytodino.recipe import DEFAULT_BACKBONE
    from cytodino.training.terminal import TerminalObserver
    from cytodino.training.trainer import train as run_training

    backbone = backbone or DEFAULT_BACKBONE
    whole = _recipe(backbone, tune, recipe, chosen)
    with TerminalObserver() as observer:
        run = run_training(
            data,
            out,
            recipe=whole,
            backbone=backbone,
            groups=groups,
            split=split,
            resume=resume,
            device=device,
            workers=workers,
            observer=observer,
        )
    click.echo(run.path)


def _recipe(
    backbone: str, tune: "Tune | None", name: "RecipeName | None", chosen: dict[str, Any]
) -> "Recipe":
    from cytodino.recipe import SHAPES, default_name, default_recipe
    from cytodino.run import open_run
    from cytodino.run_manifest import MANIFEST

    pretrained = backbone not in SHAPES
    earlier = pretrained and (Path(backbone) / MANIFEST).is_file()
    if chosen["image_size"] is None and earlier:
        chosen = {**chosen, "image_size": open_run(Path(backbone)).manifest.image_size}
    tune = tune or ("lora" if pretrained else "full")
    name = name or default_name(tune=tune, published_weights=pretrained and not earlier)
    return default_recipe(tune=tune, pretrained=pretrained, name=name, **chosen)


def _require_libraries() -> None:
    for library in _LIBRARIES:
        if find_spec(library) is None:
            raise MissingExtraError(library, "train")
