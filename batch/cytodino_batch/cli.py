"""The command `cytodino-batch`: archives to results, without torch."""

import math
from pathlib import Path
from typing import Any

import click

from cytodino.console import MAX_BATCH, CommandGroup, message
from cytodino.read_options import pop_read_options, read_options


@click.group(cls=CommandGroup)
def main() -> None:
    """Classify HDF5 archives of cell crops with a bundle; needs no torch.

    Research software, not a medical device.

    Exit codes: 0 done; 1 failed; 2 usage; 3 finished, but archives or rows failed; 4 parity
    refused.
    """


@main.command()
@click.argument("archives", nargs=-1, required=True, metavar="ARCHIVE...")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder that cytodino-export wrote; every file's hash is checked.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the results, one folder an archive.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="cuda that cannot be had is an error, never a fall-back to the CPU.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "onnxruntime", "openvino", "pytorch"]),
    default="auto",
    help="openvino is the fast one on CPUs; pytorch needs --reference and the extra [train].",
)
@click.option(
    "--variant",
    type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8", "int8-bf16"]),
    default="auto",
    help="auto, with --engine auto: what cytodino-bench tune chose on this machine, else what is "
    "usually fastest of all that passed parity for an engine that is here; fp16 on CUDA wants "
    "cytodino-export verify first.",
)
@click.option(
    "--batch-size",
    type=click.UNPROCESSED,
    callback=lambda _context, _option, value: _batch_size(value),
    default="auto",
    metavar="auto|N",
    help="Crops of one size that the engine gets together, at most 1024. auto: as tuned, or "
    "measured on the opened engine; with --shard 8 on a CPU, 64 on CUDA, so that all shards "
    "agree. A run that goes on keeps its own.",
)
@click.option(
    "--parity",
    type=click.Choice(["golden", "live", "off"]),
    default="golden",
    help="golden: 32 of the bundle's cells before the first crop; live: also a sample of each "
    "archive beside PyTorch.",
)
@click.option(
    "--parity-sample",
    type=click.IntRange(min=1),
    default=64,
    metavar="N",
    help="Rows of each archive that --parity live compares.",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="RUN",
    help="The run that the bundle was exported from; for --parity live and --engine pytorch.",
)
@click.option(
    "--review-below",
    type=click.FloatRange(0, 1),
    callback=lambda _context, _option, value: _require_number(value),
    metavar="P",
    help="Confidence below which a cell is for review; critical classes always are. Of this "
    "threshold nothing is promised.  [default: the bundle's guaranteed one, else 0.5]",
)
@read_options
@click.option(
    "--parquet",
    is_flag=True,
    help="Also write predictions.parquet, with all probabilities; needs the extra [parquet].",
)
@click.option(
    "--review-sheet",
    is_flag=True,
    help="Also write review.png, pictures of the 40 worst cells for review.",
)
@click.option(
    "--shard",
    type=click.UNPROCESSED,
    callback=lambda _context, _option, value: _shard(value),
    metavar="I/N",
    help="Do part I of N of all archives' rows, I from 1, as in a scheduler's job array; then "
    "cytodino-batch merge. Each part reads its archives once from end to end, for their hash.",
)
@click.option(
    "--restart", is_flag=True, help="Forget the journals and finished results of these archives."
)
@click.option("--dry-run", is_flag=True, help="Open and check everything, write nothing.")
@click.pass_context
def classify(context: click.Context, /, **given: Any) -> None:
    """Classify every crop of each ARCHIVE: a file, a folder of archives, or a pattern.

    In folders links are followed; hidden entries, bundles and results are passed over.

    Each archive gets a folder below --out, named by its path below the archives' common root,
    with predictions.csv, predictions.h5, quarantine.csv and summary.json. A damaged crop is
    quarantined with its row and the reason; a bad archive does not stop the next.

    A journal keeps what is done: a run that was stopped or killed goes on where it was when the
    same command is given again, and an archive that is finished is left as it is. Ctrl-C or
    SIGTERM finishes the block of rows in hand; a second one stops at once.
    """
    if given["reference"] is None and given["engine"] == "pytorch":
        raise click.UsageError("--engine pytorch needs the run itself: give --reference RUN")
    if given["reference"] is None and given["parity"] == "live":
        raise click.UsageError("--parity live needs the run itself: give --reference RUN")
    if given["shard"] is not None and given["review_sheet"]:
        raise click.UsageError("--review-sheet needs a whole archive: leave it out with --shard")

    from cytodino_batch.job import run_job
    from cytodino_batch.options import ClassifyOptions

    read = pop_read_options(given)
    context.exit(run_job(ClassifyOptions(**given, read=read)))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.pass_context
def merge(context: click.Context, folder: Path) -> None:
    """Put the shards below FOLDER together, once all of an archive's are there.

    FOLDER is the --out of classify --shard. The results are those of one run with the same batch
    size, to the byte. Shards that are missing or unfinished are named, with exit code 1.
    """
    from cytodino_batch.merge import run_merge

    context.exit(run_merge(folder))


@main.command()
@click.argument("archive", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Also write a contact sheet of crops spread over the archive.",
)
@read_options
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect(archive: Path, sheet: Path | None, as_json: bool, **given: Any) -> None:
    """Show what would be read from ARCHIVE: layout, count, sizes, filters, labels, rate.

    Archives of cytodino pack, CLAM, PatchCamelyon, scPortrait and PathML are known; of any other
    file, the one dataset that can be crops is read. What is ambiguous is refused, with the
    option that settles it.
    """
    from cytodino.archive.inspection import inspect_archive
    from cytodino_batch.inspection import inspection_lines, write_sheet

    options = pop_read_options(given)
    found = inspect_archive(archive, options)
    for note in found.notes:
        message(f"warning: {note}")
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        for line in inspection_lines(found):
            click.echo(line)
    if sheet is not None:
        write_sheet(archive, sheet, options)
        message(f"contact sheet: {sheet}")


def _require_number(value: float | None) -> float | None:
    """Refuse NaN, which no confidence is below: nothing would be for review."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number from 0 to 1")
    return value


def _batch_size(value: str) -> int | None:
    """Read `auto` as None, else a number from 1 to `MAX_BATCH`."""
    if value == "auto":
        return None
    try:
        size = int(value)
    except ValueError:
        size = 0
    if not 1 <= size <= MAX_BATCH:
        raise click.BadParameter(f"{value!r} is neither auto nor a number from 1 to {MAX_BATCH}")
    return size


def _shard(value: str | None) -> Any:
    """Read `2/7`."""
    if value is None:
        return None
    from cytodino_batch.shards import Shard

    try:
        return Shard.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
