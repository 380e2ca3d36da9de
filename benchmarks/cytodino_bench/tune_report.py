"""What `cytodino-bench tune` found, as a record and as a table."""

from pydantic import BaseModel, ConfigDict

from cytodino.engines.tuned import Choice, Configuration, Goal
from cytodino.machine import Machine
from cytodino.paths import PrintableText
from cytodino_bench.tables import open_console, plain_table

__all__ = ["Refused", "TuneReport", "Tuned", "print_tuning"]

SHOWN = 12
"""Rows of the table; the JSON has them all."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tuned(_Record):
    """One candidate that was timed."""

    configuration: Configuration
    batch_size: int
    relative: float
    """Speed by that of the fastest in the last heat: a median over rounds in which both took turns
    with the same third. Of what left early it rests on few rounds, and may exceed 1 by chance."""
    images_per_second: float
    p50_ms: float
    p90_ms: float
    """Milliseconds a call."""
    rounds: int


class Refused(_Record):
    """One of the fastest that strays from PyTorch."""

    configuration: Configuration
    batch_size: int
    reason: str


class TuneReport(_Record):
    """What `cytodino-bench tune` found."""

    bundle: PrintableText
    bundle_sha256: str
    machine: Machine
    goal: Goal
    budget_s: float | None
    """None for an exhaustive sweep."""
    seconds: float
    """What it took, golden check included."""
    candidates: int
    """Size of the whole space; what was ruled out with its variant was not timed."""
    timed: tuple[Tuned, ...]
    """Those of the last heat, then the rest, each fastest first."""
    refused: tuple[Refused, ...]
    choice: Choice
    earlier: Choice | None = None
    """What was recorded before this search."""
    earlier_relative: float | None = None
    """Its speed by the fastest one's, timed in the same rounds; None where it was not timed."""
    record: str | None
    """File in this machine's cache; None where it cannot be written."""


def print_tuning(report: TuneReport) -> None:
    """Print the fastest candidates and the choice, on stdout."""
    console = open_console()
    table = plain_table(
        ("configuration", "batch", "relative", "images/s", "p50 ms", "p90 ms", "rounds"),
        f"{len(report.timed)} of {report.candidates} candidates timed for {report.goal} in "
        f"{report.seconds:.0f} s; relative: speed by the fastest one's",
    )
    for one in report.timed[:SHOWN]:
        table.add_row(
            one.configuration.sentence(),
            str(one.batch_size),
            f"{one.relative:.3f}",
            f"{one.images_per_second:.1f}",
            f"{one.p50_ms:.2f}",
            f"{one.p90_ms:.2f}",
            str(one.rounds),
        )
    console.print(table)
    for refused in report.refused:
        console.print(f"refused: {refused.configuration.sentence()}: {refused.reason}")
    if report.earlier_relative is not None:
        console.print(
            f"recorded before, {report.earlier_relative:.1%} of the fastest: "
            f"{report.earlier.sentence() if report.earlier else ''}"
        )
    console.print(
        f"chosen, passes on {report.choice.golden_cells} golden cells: {report.choice.sentence()}"
    )
