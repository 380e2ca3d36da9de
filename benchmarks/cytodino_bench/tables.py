"""A latency report for the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from cytodino_bench.latency_report import LatencyReport, Loaded, Timing

__all__ = ["print_report"]

COLUMNS = ("engine", "variant", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s")
STARTS = ("engine", "variant", "load s", "first result s", "same class", "max |dp|", "parity")

FILE_WIDTH = 100
"""Columns of a table that goes to a file or a pipe."""


def print_report(report: LatencyReport) -> None:
    """Print machine, speeds, and start and parity of each engine and variant, on stdout."""
    machine = report.machine
    height, width = report.crop_size
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    load = "" if report.load_average is None else f", load {report.load_average:.1f} at the start"
    console.print(f"{machine.cpu}, {machine.cores} cores, {machine.system}{load}")
    console.print(
        f"bundle {report.bundle_sha256[:12]}, {report.crops} crops of {height} x {width} px, "
        f"{report.rounds} rounds by turns"
    )
    speeds = _table(COLUMNS, "a percentile that so few rounds cannot show is left out")
    starts = _table(STARTS, "against the PyTorch model's logits on the bundle's golden cells")
    for one in report.loaded:
        starts.add_row(*_name(one), *_start(one))
        for timing in one.timings:
            speeds.add_row(*_name(one), *_speed(timing))
    console.print(speeds, starts, sep="\n")


def _name(one: Loaded) -> tuple[str, str]:
    about = one.description
    return f"{about.engine} ({about.device})", about.variant


def _speed(timing: Timing) -> list[str]:
    percentiles = (timing.p50_ms, timing.p90_ms, timing.p99_ms)
    shown = ["-" if value is None else f"{value:.2f}" for value in percentiles]
    return [str(timing.batch_size), *shown, f"{timing.images_per_second:.1f}"]


def _start(one: Loaded) -> list[str]:
    return [
        f"{one.load_s:.2f}",
        f"{one.first_result_s:.2f}",
        f"{one.agreement:.2%} of {one.parity_n}",
        f"{one.probability_max:.1e}",
        one.verdict,
    ]


def _table(columns: tuple[str, ...], caption: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for column in columns:
        left = column in ("engine", "variant", "parity")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table
