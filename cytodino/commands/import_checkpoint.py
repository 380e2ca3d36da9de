"""`cytodino import-checkpoint`: the authors' checkpoint becomes a run."""

from importlib.util import find_spec
from pathlib import Path

import click

from cytodino.errors import MissingExtraError


@click.command("import-checkpoint")
@click.argument("checkpoint", metavar="best_model.pt", type=click.Path(path_type=Path))
@click.option(
    "--backbone",
    required=True,
    metavar="HUB_ID|DIR",
    help="The DINOv3 that the checkpoint was trained on.",
)
@click.option(
    "--out",
    required=True,
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="New folder for the run.",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=16),
    default=256,
    metavar="PX",
    help="Side of the square that the model was trained at.",
)
@click.option(
    "--lora-alpha", type=click.IntRange(min=1), default=128, metavar="A", help="Of the adapter."
)
@click.option(
    "--head-heads",
    type=click.IntRange(min=1),
    default=4,
    metavar="N",
    help="Attention heads of the decoder head.",
)
def import_checkpoint(
    checkpoint: Path, backbone: str, out: Path, image_size: int, lora_alpha: int, head_heads: int
) -> None:
    """Turn the authors' checkpoint, a state dict of the whole unmerged model, into a run.

    Every key has to find its place. Image size, alpha and the number of attention heads are in no
    checkpoint: the defaults are the published ones. The run names no cells: export it with --data.
    """
    for library in ("torch", "transformers", "peft"):
        if find_spec(library) is None:
            raise MissingExtraError(library, "train")
    from cytodino.modeling.checkpoint import import_checkpoint as run_import

    run = run_import(
        checkpoint,
        out,
        backbone=backbone,
        image_size=image_size,
        lora_alpha=lora_alpha,
        head_heads=head_heads,
    )
    click.echo(run.path)
