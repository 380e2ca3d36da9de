"""The command `cytodino-bench`: how fast a bundle answers here, beside whether it answers right."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cytodino.console import MAX_BATCH, CommandGroup, FiniteRange, interactive, message
from cytodino.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress

FILE = click.Path(path_type=Path, dir_okay=False)
RUN = click.Path(path_type=Path)
BATCH = click.IntRange(min=1, max=MAX_BATCH)


class ChartFile(click.Path):
    """A file whose name says which kind of chart it will be."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read a path, and refuse what ends in neither .png nor .svg."""
        from cytodino_bench.files import require_chart_name

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            require_chart_name(path)
        except InputError as error:
            self.fail(f"{error}.", param, ctx)
        return path


CHART = ChartFile(dir_okay=False)


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
    "--variant",
    "variants",
    type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8", "int8-bf16"]),
    multiple=True,
    default=["auto"],
    help="May be given more than once; auto takes all that passed.",
)
@click.option(
    "--reference",
    type=RUN,
    metavar="RUN",
    help="The run that the bundle was made from, which the engine pytorch needs.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--scenario",
    "scenarios",
    type=click.Choice(["single stream", "offline"]),
    multiple=True,
    default=["single stream", "offline"],
    help="As MLPerf names them: one crop a query, or all at hand.",
)
@click.option(
    "--batch-sizes",
    callback=lambda _context, _option, value: _parse_batch_sizes(value),
    default="8,32",
    help="Crops in one offline call, separated by commas.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=30, help="Turns of each combination.")
@click.option(
    "--json",
    "json_file",
    type=FILE,
    metavar="FILE",
    help="Write everything measured, every single time included.",
)
@click.option("--chart", type=CHART, metavar="FILE.png|svg", help="Write a chart.")
@click.option("--html", type=FILE, metavar="FILE", help="Write a page that needs nothing else.")
def latency(
    bundle: Path, json_file: Path | None, chart: Path | None, html: Path | None, **given: Any
) -> None:
    """Time a bundle's golden crops: engines x variants that passed x batch sizes.

    Calls of all combinations take turns, so that a slow minute of the machine falls on all of
    them. Beside each speed stands how often the answers agree with the PyTorch model's; start and
    memory are measured in processes of their own.
    """
    if "pytorch" in given["engines"] and given["reference"] is None:
        raise click.UsageError("--engine pytorch needs the run itself: give --reference RUN")
    from cytodino_bench.files import require_places, write_chart, write_text
    from cytodino_bench.latency import measure_latency
    from cytodino_bench.latency_chart import draw_latency
    from cytodino_bench.latency_page import latency_page
    from cytodino_bench.tables import print_report

    require_places(json_file, chart, html)
    with _progress("measuring", "turns") as bar:
        task = bar.add_task("turns", total=None)
        report = measure_latency(
            bundle,
            **given,
            say=message,
            progress=lambda of: bar.update(task, advance=1, total=of),
        )
    print_report(report)
    if json_file is not None:
        write_text(json_file, report.model_dump_json(indent=2) + "\n")
        click.echo(str(json_file))
    if chart is not None:
        write_chart(chart, draw_latency(report))
        click.echo(str(chart))
    if html is not None:
        write_text(html, latency_page(report))
        click.echo(str(html))


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--goal",
    type=click.Choice(["throughput", "latency"]),
    default="throughput",
    help="Most crops a second, or one crop soonest.",
)
@click.option(
    "--budget",
    type=FiniteRange(min=1),
    default=240.0,
    metavar="SECONDS",
    help="Time for all of it, the golden check at the end included.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--exhaustive",
    is_flag=True,
    help="Time everything, whatever it takes, and beside the fastest what was recorded before.",
)
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write everything timed.")
def tune(bundle: Path, json_file: Path | None, **given: Any) -> None:
    """Find the fastest configuration of BUNDLE that passes parity here, and record it.

    Engines, variants, threads, streams and batch sizes compete in rounds by turns, fewer and
    fewer for more and more rounds. The fastest has to pass on all golden cells. It is kept in
    this machine's cache folder: cytodino-batch classify takes it where engine and variant are
    auto, until the machine changes.
    """
    from cytodino_bench.files import require_places, write_text
    from cytodino_bench.tune import tune_bundle
    from cytodino_bench.tune_report import print_tuning

    require_places(json_file)
    with _progress("tuning", "candidates") as bar:
        task = bar.add_task("candidates", total=None)
        report = tune_bundle(
            bundle,
            **given,
            say=message,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    print_tuning(report)
    if report.record is not None:
        click.echo(report.record)
    if json_file is not None:
        write_text(json_file, report.model_dump_json(indent=2) + "\n")
        click.echo(str(json_file))


@main.command()
@click.argument("run", type=RUN)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="What was exported from the run; without it, it is exported first, in FP32 and INT8.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the peers' files here, and use again what is here; otherwise they are temporary.",
)
@click.option("--query", type=BATCH, default=32, help="Crops in one turn.")
@click.option("--batch-size", type=BATCH, default=8, help="Crops in one call.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, help="Turns of each peer.")
@click.option(
    "--archive",
    "archives",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="ARCHIVE",
    help="Also classify this archive, and hold it against a plain loop; may be repeated.",
)
@click.option(
    "--plain-crops",
    type=click.IntRange(min=16),
    default=256,
    help="Crops of an archive that the plain loop does.",
)
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write everything measured.")
@click.option("--chart", type=CHART, metavar="FILE.png|svg", help="Write a chart.")
def peers(run: Path, json_file: Path | None, chart: Path | None, **given: Any) -> None:
    """Run the weights of RUN through what people would use instead, on the bundle's golden cells.

    PyTorch eager and compiled, onnxruntime and optimum with their quantisers, OpenVINO with and
    without NNCF, and all of the bundle's variants that passed, each in a process of its own, by
    turns. Figures are ratios to PyTorch eager fp32, with agreement beside each. A peer that fails
    is a line with the reason.
    """
    if given["query"] % given["batch_size"]:
        raise click.UsageError("--query has to be a multiple of --batch-size")
    from cytodino_bench.files import require_places, write_chart, write_text
    from cytodino_bench.peers_job import run_peers
    from cytodino_bench.peers_report import draw_peers, print_peers

    require_places(json_file, chart)
    with _progress("measuring", "turns") as bar:
        task = bar.add_task("turns", total=None)
        report = run_peers(
            run,
            **given,
            say=message,
            progress=lambda of: bar.update(task, advance=1, total=of),
        )
    print_peers(report)
    if json_file is not None:
        write_text(json_file, report.model_dump_json(indent=2) + "\n")
        click.echo(str(json_file))
    if chart is not None:
        write_chart(chart, draw_peers(report))
        click.echo(str(chart))


def _progress(what: str, units: str) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    return Progress(
        what,
        BarColumn(),
        MofNCompleteColumn(),
        units,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not interactive(),
    )


def _parse_batch_sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or max(sizes) > MAX_BATCH:
        raise click.BadParameter(f"{text!r}: give numbers from 1 to {MAX_BATCH}, such as 8,32")
    return sizes
