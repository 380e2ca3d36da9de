"""The command `cytodino-export`: a run becomes a bundle; a bundle is proven on a machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cytodino.console import CommandGroup, message
from cytodino.errors import MissingExtraError, ParityError

if TYPE_CHECKING:
    from cytodino.limits import Limits


@click.group(cls=CommandGroup)
def main() -> None:
    """From a trained run to a bundle that any machine can prove.

    Research software, not a medical device. `cytodino` trains the run, `cytodino-batch`
    classifies archives with the bundle.
    """


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The bundle; must not exist."
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int8"]),
    default=("fp32",),
    help="Precision to export, which then has to pass; may be given more than once. FP32 is always "
    "among them: the others are made from it, and asked for by whoever wants their speed.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Cells to judge by, images or archive, in place of the run's own test part; those of "
    "its other parts are left out, copies under other names too.",
)
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    help="Cells that travel with the bundle, images or archive, in place of the run's own.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Cells to calibrate and tune INT8 with, images or archive, in place of the run's own "
    "training part. (Its calibration part is for confidences.)",
)
@click.option(
    "--calibration-cells",
    type=click.IntRange(min=1),
    default=64,
    help="Cells that calibrate INT8; more take more time and memory.",
)
@click.option(
    "--tuning-cells",
    type=click.IntRange(min=1),
    default=128,
    help="Cells that decide which parts of INT8 stay float.",
)
@click.option(
    "--confidence",
    type=click.Path(path_type=Path),
    help="Labelled cells to calibrate confidence and the review threshold with, images or archive, "
    "in place of the run's own calibration part.",
)
@click.option(
    "--confidence-cells",
    type=click.IntRange(min=60),
    default=2_000,
    help="Most cells for that, drawn at random.",
)
@click.option(
    "--max-cells",
    type=click.IntRange(min=1),
    default=2_000,
    help="Most cells to judge by; below 200 nothing is proven.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="VARIANT.LIMIT=VALUE",
    callback=lambda _context, _option, changes: _limits(changes),
    help="Change a limit, such as int8.margin=0.15; may be given more than once, and is recorded "
    "with the verdicts.",
)
@click.option(
    "--allow-failing",
    is_flag=True,
    help="Keep a refused bundle for study, marked unusable; the exit code stays 4.",
)
def onnx(run: Path, out: Path, precisions: tuple[str, ...], **given: Any) -> None:
    """Export a RUN as a bundle, held against PyTorch at every step.

    Exit code 4, and no bundle but the report in OUT.refused, where a requested precision has no
    engine that passes.
    """
    try:
        from cytodino_export.pipeline import ExportOptions, export_run
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "export") from error
    from cytodino_export.tables import show_chain, show_confidence

    options = ExportOptions(precisions=tuple(dict.fromkeys(precisions)), **given)
    result = export_run(run, out, options, say=message)
    show_chain(result.chain)
    show_confidence(result.confidence)
    if result.bundle is not None:
        click.echo(result.bundle)
    if result.refused is not None:
        if result.bundle is not None:
            message("kept for study, marked unusable")
        read = "" if result.report is None else f"read {result.report / 'parity.html'}; "
        raise ParityError(
            f"refused: {result.refused}",
            where=run,
            mend=f"{read}give more cells with --data, or keep it for study with --allow-failing",
        )


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on stdout.")
def verify(bundle: Path, as_json: bool) -> None:
    """Prove a BUNDLE on this machine: files, then golden cells on each engine found; no torch.

    The verdicts are kept in this machine's cache folder. Exit code 4 where one fails.
    """
    from cytodino.bundle.verification import verify_bundle
    from cytodino_export.tables import show_verification

    found = verify_bundle(bundle, say=message)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        show_verification(found)
    if found.record is not None:
        message(f"recorded in {found.record}")
    if found.refused is not None:
        raise ParityError(
            f"refused on this machine: {found.refused}",
            where=bundle,
            mend="use another variant or engine, or export the run again",
        )


def _limits(changes: Sequence[str]) -> "dict[str, Limits]":
    from cytodino.limits import change_limits

    try:
        return change_limits(changes)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
