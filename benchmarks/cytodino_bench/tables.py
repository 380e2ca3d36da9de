"""A latency report for the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from cytodino_bench.latency_report import OFFLINE, SINGLE_STREAM, LatencyReport, Loaded, Timing

__all__ = ["open_console", "plain_table", "print_report"]

COLUMNS = (
    *("engine", "variant", "batch", "p50 ms", "p90 ms", "p99 ms", "spread", "images/s"),
    *("same class", "parity"),
)
STARTS = (
    *("engine", "variant", "for", "load s", "again s", "first result s", "again s"),
    *("peak MiB", "max |dp|"),
)
WORDS = ("engine", "variant", "parity", "for", "configuration", "peer")
"""Columns that stand to the left; figures stand to the right."""

CAPTIONS = {
    OFFLINE: "offline: all crops at hand; spread: interquartile range by median",
    SINGLE_STREAM: "single stream: one crop a query; a percentile that so few calls cannot show "
    "is left out",
}

FILE_WIDTH = 132
"""Columns of a table that goes to a file or a pipe."""


def print_report(report: LatencyReport) -> None:
    """Print machine, speeds, and start and parity of each engine and variant, on stdout."""
    machine = report.machine
    height, width = report.crop_size
    console = open_console()
    load = "" if report.load_average is None else f", load {report.load_average:.1f} at the start"
    console.print(f"{machine.cpu}, {machine.cores} cores, {machine.system}{load}")
    console.print(
        f"bundle {report.bundle_sha256[:12]}, {report.crops} crops of {height} x {width} px, "
        f"{report.rounds} rounds by turns"
    )
    energy = bool(report.energy_sources)
    for scenario in (OFFLINE, SINGLE_STREAM):
        speeds = plain_table((*COLUMNS, "J a crop") if energy else COLUMNS, CAPTIONS[scenario])
        for one in report.loaded:
            for timing in one.timings:
                if timing.scenario == scenario:
                    speeds.add_row(*_names(one), *_speed(one, timing, energy))
        if speeds.row_count:
            console.print(speeds)
    starts = plain_table(
        STARTS, "in processes of their own; again: with the compiled model in the cache"
    )
    for one in report.loaded:
        starts.add_row(*_names(one), *_start(one))
    console.print(starts)


def open_console() -> Console:
    """Open stdout for tables; what goes to a file gets a width of its own."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


def plain_table(columns: tuple[str, ...], caption: str) -> Table:
    """Start a table; its figures stand to the right."""
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left", padding=(0, 1))
    for column in columns:
        table.add_column(column, justify="left" if column in WORDS else "right", no_wrap=True)
    return table


def _names(one: Loaded) -> tuple[str, str]:
    about = one.description
    return f"{about.engine} ({about.device})", about.variant


def _speed(one: Loaded, timing: Timing, energy: bool) -> list[str]:
    percentiles = (timing.p50_ms, timing.p90_ms, timing.p99_ms)
    shown = ["-" if value is None else f"{value:.2f}" for value in percentiles]
    joules = "-" if timing.joules_a_crop is None else f"{timing.joules_a_crop:.2f}"
    return [
        str(timing.batch_size),
        *shown,
        f"{timing.spread:.0%}",
        f"{timing.images_per_second:.1f}",
        f"{one.agreement:.2%} of {one.parity_n}",
        one.verdict,
        *([joules] if energy else []),
    ]


def _start(one: Loaded) -> list[str]:
    start = one.start
    seconds = (start.load_s, start.load_again_s, start.first_result_s, start.first_result_again_s)
    return [
        one.purpose,
        *("-" if value is None else f"{value:.2f}" for value in seconds),
        "-" if start.peak_memory is None else f"{start.peak_memory / 2**20:.0f}",
        f"{one.probability_max:.1e}",
    ]
