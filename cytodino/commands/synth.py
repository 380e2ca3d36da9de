"""`cytodino synth`: draw labelled cells from a seed."""

from pathlib import Path

import click

from cytodino.console import interactive, message


@click.command("synth")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--cells-per-class",
    type=click.IntRange(1, 99_999),
    default=20,
    metavar="N",
    help="Cells of each of the 21 classes.",
)
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    default=250,
    metavar="PX",
    help="Side of a crop, pixels.",
)
@click.option(
    "--stain",
    type=click.Choice(["a", "b"]),
    default="a",
    help="Stain and camera; b is another laboratory's.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="The same seed draws the same bytes."
)
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Also write a contact sheet: five cells of each class.",
)
def synth(
    out: Path, cells_per_class: int, size: int, stain: str, seed: int, sheet: Path | None
) -> None:
    """Draw synthetic, labelled cells of all 21 classes into the image folder OUT.

    The cells are drawings, not data: they let the whole chain be tried without patients' images.
    OUT/slides.csv says which of the drawn slides each cell lies on.
    """
    from rich.console import Console
    from rich.progress import Progress

    from cytodino.errors import InputError
    from cytodino.pictures import require_new_picture
    from cytodino.synthetic import write_sheet, write_slides
    from cytodino.taxonomy import N_CLASSES

    if sheet is not None and sheet.resolve().is_relative_to(out.resolve()):
        raise InputError(
            "the contact sheet would be taken for a cell",
            where=sheet,
            mend=f"name a file outside {out}",
        )
    if sheet is not None:
        require_new_picture(sheet)

    with Progress(console=Console(stderr=True), disable=not interactive()) as bar:
        task = bar.add_task("drawing cells", total=cells_per_class * N_CLASSES)
        written = write_slides(
            out,
            cells_per_class=cells_per_class,
            size=size,
            stain=stain,
            seed=seed,
            progress=lambda: bar.advance(task),
        )
    message(f"{written} cells of {N_CLASSES} classes, {size} x {size} pixels, stain {stain}")
    click.echo(out)
    if sheet is not None:
        write_sheet(sheet, size=size, stain=stain, seed=seed)
        click.echo(sheet)
