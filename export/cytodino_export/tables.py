"""Verdicts as a table on the terminal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from cytodino.bundle.manifest import EngineVerdict
    from cytodino.bundle.verification import Verification
    from cytodino_export.gate import Link, ParityChain

__all__ = ["show_chain", "show_verification"]

STYLES = {"passed": "green", "failed": "bold red", "unproven": "yellow"}
NARROWEST = 140
"""Columns of the table where stderr is no terminal."""


def show_chain(chain: "ParityChain") -> None:
    """Print every link and every variant's verdict to stderr."""
    console = _console()
    table = _table("parity")
    for link in chain.links:
        _add_link(table, link)
    for result in chain.variants:
        _add_verdict(table, result.variant, result.verdict)
    console.print(table)
    _print_reasons(console, ((r.variant, r.verdict) for r in chain.variants))


def show_verification(verification: "Verification") -> None:
    """Print each check of this machine to stderr."""
    console = _console()
    table = _table("golden cells on this machine")
    table.add_column("drift")
    for check in verification.checks:
        drift = "–" if check.drift is None else f"{check.drift:.2g}"
        _add_verdict(table, check.variant, check.verdict, drift)
    console.print(table)
    _print_reasons(console, ((c.variant, c.verdict) for c in verification.checks))


def _console() -> Console:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, NARROWEST)
    return console


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("model", no_wrap=True)
    for name in ("on", "verdict", "cells", "agreement", "max |Δlogit|", "max |Δp|"):
        table.add_column(name)
    for name in ("flips", "critical"):
        table.add_column(name, justify="right")
    return table


def _add_link(table: Table, link: "Link") -> None:
    report = link.report
    # Links in PyTorch are only asked not to fail: they have the golden cells, the verdict more.
    kept = "failed" if report.verdict == "failed" else "passed"
    table.add_row(
        f"{link.reference} → {link.candidate}",
        "pytorch",
        f"[{STYLES[kept]}]{kept}",
        str(report.n),
        f"{report.agreement:.2%}",
        f"{report.logit_max:.2g}",
        f"{report.probability_max:.2g}",
        str(len(report.flips)),
        str(len(report.critical_flips)),
    )


def _add_verdict(table: Table, variant: str, verdict: "EngineVerdict", *more: str) -> None:
    agreement = "–"
    if verdict.agreement is not None:
        agreement = f"{verdict.agreement:.2%} (≥ {verdict.agreement_low:.1%})"
    provider = verdict.provider.removesuffix("ExecutionProvider")
    table.add_row(
        variant,
        f"{verdict.engine} {provider}",
        f"[{STYLES[verdict.verdict]}]{verdict.verdict}",
        str(verdict.n),
        agreement,
        *(_figure(value) for value in (verdict.logit_max, verdict.probability_max)),
        *(
            "–" if count is None else str(count)
            for count in (verdict.flips, verdict.critical_flips)
        ),
        *more,
    )


def _print_reasons(console: Console, verdicts: "Iterable[tuple[str, EngineVerdict]]") -> None:
    for variant, verdict in verdicts:
        for reason in verdict.reasons:
            console.print(f"  {variant} on {verdict.engine}: {escape(reason)}", soft_wrap=True)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
