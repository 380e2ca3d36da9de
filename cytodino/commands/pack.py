"""`cytodino pack`: an image folder to an HDF5 archive."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cytodino.console import interactive, message
from cytodino.parts import PARTS
from cytodino.read_options import pop_read_options, read_options

if TYPE_CHECKING:
    from cytodino.archive.writer import Compression, Encoding


@click.command("pack")
@click.argument("images", type=click.Path(path_type=Path, exists=True))
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False), metavar="ARCHIVE.h5")
@click.option(
    "--encoding",
    type=click.Choice(["jpeg", "raw"]),
    help="jpeg keeps the files' own bytes, PNG and TIFF files' too, and crops of any sizes; raw "
    "writes pixels of one size.  [default: what is read fastest, jpeg of JPEG files and of several "
    "sizes, raw of others]",
)
@click.option(
    "--compression",
    type=click.Choice(["none", "gzip", "lz4", "zstd"]),
    default="none",
    help="Of raw pixels, without loss; none is read fastest, gzip slowest.",
)
@click.option("--slide", metavar="NAME", help="Name of the slide.  [default: the folder's name]")
@click.option(
    "--run",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="RUN",
    help="Pack only one part of the cells that this run was trained on; needs --part.",
)
@click.option(
    "--part",
    type=click.Choice(PARTS),
    help="Which part of the run; needs --run.",
)
@read_options
def pack(
    images: Path,
    archive: Path,
    encoding: "Encoding | None",
    compression: "Compression",
    slide: str | None,
    run: Path | None,
    part: str | None,
    **given: Any,
) -> None:
    """Pack the image folder IMAGES into the new archive ARCHIVE.h5.

    IMAGES holds CLASS/.../*.jpg, or images without class folders, which are packed unlabelled; or
    it is an archive, another tool's too, to be packed again.
    Every image is decoded first: one that cannot be used stops the packing, and nothing is left
    behind.
    """
    if encoding == "jpeg" and compression != "none":
        raise click.UsageError(
            "--compression is for --encoding raw: image files are compressed already"
        )
    if (run is None) != (part is None):
        raise click.UsageError("--run and --part go together")

    read = pop_read_options(given)
    from rich.console import Console
    from rich.progress import Progress

    from cytodino.archive.packing import pack as pack_cells

    with Progress(console=Console(stderr=True), disable=not interactive(), transient=True) as bar:
        task = bar.add_task("packing", total=None)
        packed = pack_cells(
            images,
            archive,
            encoding=encoding,
            compression=compression,
            slide=slide,
            run=run,
            part=part,
            read=read,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for line in packed.lines():
        message(line)
    click.echo(archive)
