"""`cytodino calibrate`: a run's confidence and review threshold, from its calibration part."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cytodino.console import FiniteRange, interactive, message
from cytodino.errors import MissingExtraError

if TYPE_CHECKING:
    from cytodino.calibration.file import Confidence

SHARE = FiniteRange(1e-6, 1 - 1e-6)
"""No number of cells that anybody has can promise more, and nearer to 1 its rounding is all."""


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--accuracy",
    type=SHARE,
    metavar="A",
    help="Least share of accepted cells that are to be right.  [default: 0.95, unless "
    "--critical-errors is given alone]",
)
@click.option(
    "--critical-errors",
    "critical_rate",
    type=SHARE,
    metavar="R",
    help="Largest share of accepted cells that may be critical cells called safe.",
)
@click.option(
    "--level",
    type=SHARE,
    default=0.95,
    metavar="C",
    help="Confidence at which this is promised.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="IMAGES|ARCHIVE",
    help="Labelled cells in place of the run's calibration part; those of its other parts are "
    "left out.",
)
@click.option(
    "--max-cells", "most", type=click.IntRange(min=60), metavar="N", help="Cells at most."
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, help="Crops in one call, at most."
)
def calibrate(
    run: Path,
    accuracy: float | None,
    critical_rate: float | None,
    level: float,
    data: Path | None,
    most: int | None,
    device: str,
    batch_size: int,
) -> None:
    """Fit the temperature of a RUN's confidence, and a review threshold that keeps a promise.

    Writes confidence.json into the run; an export asks the same of every variant. The promise is
    for cells like the calibration cells, prevalence included. Where the data cannot support it,
    the threshold is refused, and the reason said.
    """
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "train")

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    from cytodino.calibration.file import CONFIDENCE_NAME
    from cytodino.calibration.fitting import calibrate_run
    from cytodino.calibration.threshold import Targets
    from cytodino.engines.pytorch import open_reference
    from cytodino.run import open_run

    if accuracy is None and critical_rate is None:
        accuracy = 0.95
    targets = Targets(accuracy=accuracy, critical_rate=critical_rate, level=level)
    opened = open_run(run)
    bar = Progress(
        "calibrating",
        BarColumn(),
        MofNCompleteColumn(),
        "cells",
        console=Console(stderr=True),
        disable=not interactive(),
    )
    with bar, open_reference(run, device=device) as engine:
        task = bar.add_task("cells", total=None)
        found = calibrate_run(
            opened,
            engine,
            targets,
            data=data,
            most=most,
            batch_size=batch_size,
            progress=lambda done, of: bar.update(task, advance=done, total=of),
        )
    for line in _lines(found):
        message(line)
    click.echo(str(run / CONFIDENCE_NAME))


def _lines(found: "Confidence") -> Iterator[str]:
    from cytodino.calibration.threshold import Guarantee

    for model in found.models:
        fitted = model.calibration
        before, after = fitted.before, fitted.after
        yield (
            f"temperature {fitted.temperature:.3f}, from {fitted.exploring} cells; on "
            f"{fitted.judging} others ECE {before.ece:.4f} -> {after.ece:.4f}, "
            f"NLL {before.nll:.4f} -> {after.nll:.4f}"
        )
        review = fitted.review
        if isinstance(review, Guarantee):
            yield f"accepted from confidence {review.threshold:g} up: {review.sentence()}"
        else:
            yield f"no threshold can be promised: {review.reason}"
