"""The command `cytodino-bench`: how fast a bundle answers here, beside whether it answers right."""

from pathlib import Path

import click

from cytodino.console import CommandGroup, interactive, message


@click.group(cls=CommandGroup)
def main() -> None:
    """Measure bundles on the machine at hand."""


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--engine",
    "engines",
    type=click.Choice(["auto", "onnxruntime", "openvino", "pytorch"]),
    multiple=True,
    default=["auto"],
    help="May be given more than once; auto takes all that can be opened here.",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="The run that the bundle was made from, which the engine pytorch needs.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--batch-sizes", default="1,8,32", help="Crops in one call, separated by commas.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=30, help="Timed calls of each combination."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write everything measured, every single time included.",
)
def latency(
    bundle: Path,
    engines: tuple[str, ...],
    reference: Path | None,
    device: str,
    batch_sizes: str,
    rounds: int,
    json_file: Path | None,
) -> None:
    """Time a bundle's golden crops: engines x variants that passed x batch sizes.

    Calls of all combinations take turns, so that a slow minute of the machine falls on all of
    them. Beside each speed stands how often the answers agree with the PyTorch model's.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from cytodino_bench.latency import measure_latency
    from cytodino_bench.latency_report import write_json
    from cytodino_bench.tables import print_report

    bar = Progress(
        "measuring",
        BarColumn(),
        MofNCompleteColumn(),
        "calls",
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not interactive(),
    )
    with bar:
        task = bar.add_task("calls", total=None)
        report = measure_latency(
            bundle,
            engines=engines,
            reference=reference,
            device=device,
            batch_sizes=_parse_batch_sizes(batch_sizes),
            rounds=rounds,
            say=message,
            progress=lambda of: bar.update(task, advance=1, total=of),
        )
    print_report(report)
    if json_file is not None:
        write_json(report, json_file)
        click.echo(str(json_file))


def _parse_batch_sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise click.BadParameter(
            f"{text!r}: give numbers of 1 or more, such as 1,8,32", param_hint="--batch-sizes"
        )
    return sizes
