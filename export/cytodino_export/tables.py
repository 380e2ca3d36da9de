"""Verdicts as a table on the terminal."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cytodino.calibration import Refusal

if TYPE_CHECKING:
    from cytodino.bundle.manifest import EngineVerdict
    from cytodino.bundle.verification import Check, Verification
    from cytodino.calibration.file import Confidence
    from cytodino_export.chain import Link, ParityChain, VariantResult

__all__ = ["show_chain", "show_confidence", "show_verification"]

STYLES = {"passed": "green", "failed": "bold red", "unproven": "yellow"}
NARROWEST = 140
"""Columns of the table where it goes to no terminal."""


def show_chain(chain: "ParityChain") -> None:
    """Print every link and every variant's verdict to stderr."""
    console = _console()
    table = _table("parity")
    table.add_column("images/s", justify="right")
    for link in chain.links:
        _add_link(table, link)
    for result in chain.variants:
        _add_verdict(table, result.variant, result.verdict, _speed(result))
    console.print(table)
    _print_reasons(console, ((r.variant, r.verdict) for r in chain.variants))
    for line in _findings(chain):
        console.print(f"  {escape(line)}", soft_wrap=True)


def show_confidence(confidence: "Confidence | None") -> None:
    """Print each variant's temperature, and the threshold or why there is none, to stderr."""
    if confidence is None:
        return
    console = _console()
    table = Table(title="confidence", title_justify="left")
    for name in ("model", "on", "temperature", "ECE", "accepted from", "cells accepted"):
        table.add_column(name)
    for one in confidence.models:
        found = one.calibration
        promised = found.guarantee
        table.add_row(
            one.variant,
            f"{one.engine} {one.provider.removesuffix('ExecutionProvider')}",
            f"{found.temperature:.3f}",
            f"{found.before.ece:.4f} → {found.after.ece:.4f}",
            "–" if promised is None else f"{promised.threshold:.4f}",
            "–" if promised is None else f"{promised.accepted} of {promised.judged}",
        )
    console.print(table)
    console.print(f"  promised: {confidence.targets.sentence()}", soft_wrap=True)
    for one in confidence.models:
        if isinstance(one.calibration.review, Refusal):
            reason = escape(one.calibration.review.reason)
            console.print(f"  {one.variant} on {one.engine}: {reason}", soft_wrap=True)


def show_verification(verification: "Verification") -> None:
    """Print each check of this machine to stdout: it is what was asked for."""
    console = _console(stderr=False)
    table = _table("golden cells on this machine")
    table.add_column("drift")
    for check in verification.checks:
        drift = "–" if check.drift is None else f"{check.drift:.2g}"
        _add_verdict(table, check.variant, check.verdict, drift)
    console.print(table)
    _print_reasons(console, ((c.variant, c.verdict) for c in verification.checks))
    for check in verification.checks:
        if (blame := _blame(check)) is not None:
            console.print(f"  {check.variant} on {check.verdict.engine}: {blame}", soft_wrap=True)


def _blame(check: "Check") -> str | None:
    """Tell, of a check that failed, drift of this box from what the variant has always given."""
    furthest = check.verdict.logit_max
    if check.verdict.verdict != "failed" or check.drift is None or furthest is None:
        return None
    if check.drift < furthest / 2:
        return "not this box: the machine that exported it gave nearly the same logits"
    return (
        f"this box: a logit is {check.drift:.2g} from what the same file gave on the machine that "
        "exported it"
    )


def _speed(result: "VariantResult") -> str:
    """Images a second in the gate; of INT8 as it was timed by turns with the best float."""
    if result.speed is not None:
        return f"{result.speed.images_per_second:.3g}"
    if not result.links or not result.links[0].seconds:
        return "–"
    return f"{result.links[0].report.n / result.links[0].seconds:.3g}"


def _findings(chain: "ParityChain") -> Iterator[str]:
    """Say what FP16 and INT8 left in float and why, and where INT8 is not worth it."""
    if chain.fp16 is not None:
        made, ranges = chain.fp16.conversion, chain.fp16.ranges
        islands = ", ".join(f"{reason} {count}" for reason, count in made.islands.items())
        yield (
            f"fp16: {made.half_nodes} nodes in FP16, in float32 {islands}; the largest FP16 value "
            f"on {ranges.crops} crops is {ranges.largest:.4g} of {ranges.limit:g} allowed"
        )
    if chain.int8 is not None:
        yield (
            f"int8: {chain.int8.products} products in INT8, calibrated on "
            f"{chain.int8.calibration_crops} cells, tuned on {chain.int8.tuning_crops}"
        )
        for group in chain.int8.returned:
            yield (
                f"int8: {group.name} back to float, relative logit error "
                f"{group.error_before:.3g} to {group.error_after:.3g}"
            )
    for result in chain.variants:
        if result.speed is not None and not result.speed.worth_it:
            yield (
                f"{result.variant} on {result.verdict.engine}: not worth it here, "
                f"{result.speed.images_per_second:.3g} images/s where {result.speed.against} "
                f"gives {result.speed.against_images_per_second:.3g}"
            )


def _console(*, stderr: bool = True) -> Console:
    console = Console(stderr=stderr, highlight=False)
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
