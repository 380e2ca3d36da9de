"""One variant on one engine: its figures, its distributions, its worst cells."""

from collections.abc import Iterator

import numpy as np

from cytodino.page.markup import (
    Html,
    badge,
    fragment,
    number,
    share,
    table,
    tag,
    text,
)
from cytodino.parity import ParityReport
from cytodino_export.chain import VariantResult
from cytodino_export.parity_page.cells import WORST_CELLS, worst_cells
from cytodino_export.parity_page.charts import (
    change_histogram,
    change_scatter,
    logit_histogram,
    margin_bars,
)
from cytodino_export.parity_page.evidence import Changes, Evidence
from cytodino_export.parity_page.limits_table import flip_table, limits_table, links_table

__all__ = ["name_of", "summary_row", "variant_section"]

VISIBLE = 0.0005
"""Change of a probability that shows in three digits."""


def name_of(result: VariantResult) -> str:
    """Name a variant on its engine."""
    return f"{result.variant} on {result.verdict.engine}, {_provider_of(result)}"


def _provider_of(result: VariantResult) -> str:
    """Name the provider without the suffix that all of onnxruntime's share."""
    return result.verdict.provider.removesuffix("ExecutionProvider")


def variant_section(result: VariantResult, evidence: Evidence, anchor: str) -> Html:
    """Write everything that is known about one variant on one engine."""
    verdict = result.verdict
    title = tag("h2", text(name_of(result)), badge(verdict.verdict))
    parts = [title, *_reasons(result), *_engine(result)]
    if result.links:
        report = result.links[0].report
        parts.append(tag("h3", text("Limits, and what was found on the acceptance cells")))
        parts.append(limits_table(report, result.invariance))
        if result.links[1:]:
            parts.append(tag("h3", text("The same variant on other cells and in other batches")))
            parts.append(links_table(result.links[1:]))
        parts += _left_in_float(result.variant, evidence)
        parts += _pictured(result, report, evidence)
    else:
        parts.append(tag("p", text("There are no answers to compare."), class_="soft"))
        parts += _left_in_float(result.variant, evidence)
    return tag("section", *parts, id=anchor, class_="variant")


def _reasons(result: VariantResult) -> Iterator[Html]:
    verdict = result.verdict
    if verdict.reasons:
        lines = (tag("li", text(reason)) for reason in verdict.reasons)
        yield tag("ul", *lines, class_=f"reasons {verdict.verdict}")


def _engine(result: VariantResult) -> Iterator[Html]:
    found = result.description
    if found is None:
        yield tag(
            "p", text(f"The engine did not open, on {result.verdict.machine}."), class_="soft"
        )
        return
    options = ", ".join(f"{name} {value}" for name, value in found.options.items())
    said = (
        f"{found.engine} {found.version}, {found.provider}, on {result.verdict.machine}; {options}"
    )
    yield tag("p", text(said), class_="soft")
    for warning in found.warnings:
        yield tag("p", text(warning), class_="note")


def _pictured(result: VariantResult, report: ParityReport, evidence: Evidence) -> Iterator[Html]:
    changes = evidence.changes(result)
    figures = [
        _figure(
            "Flips by margin",
            margin_bars(report.margins, report.limits.margin),
            "Margin: PyTorch's top-1 minus its top-2 probability, that is, how sure it was.",
        )
    ]
    if changes is not None:
        figures += _distributions(report, changes, float(evidence.reference.std()))
    yield tag("div", *figures, class_="charts")
    if report.flips:
        yield tag("h3", text("Flips by class"))
        said = (
            "Rows: PyTorch's class. Columns: the candidate's. Outlined: a critical class called "
            "safe. The names of critical classes stand in vermilion."
        )
        yield tag("p", text(said), class_="soft")
        yield flip_table(report)
    else:
        yield tag("p", text("No cell changed its class: there is no table of flips."))
    if changes is not None:
        yield _worst(result, report, evidence, changes)


def _worst(
    result: VariantResult, report: ParityReport, evidence: Evidence, changes: Changes
) -> Html:
    """Show the worst cells; folded away where nobody could see a difference."""
    shown = min(WORST_CELLS, report.n)
    visible = report.verdict == "failed" or report.flips or report.probability_max >= VISIBLE
    return tag(
        "details",
        tag("summary", text(f"The {shown} cells that changed most" if shown > 1 else "The cell")),
        tag("p", text("Flips first, then by |Δp|; the top two classes of both models.")),
        worst_cells(evidence, changes, name_of(result), report.limits.margin),
        open="" if visible else None,
    )


def _distributions(report: ParityReport, changes: Changes, spread: float) -> Iterator[Html]:
    limits = report.limits
    largest = changes.largest
    middle, most = np.quantile(largest, (0.5, 0.99))
    yield _figure(
        "Change of probabilities",
        change_histogram(largest, limits.probability),
        f"Median {number(float(middle))}, 99 % of the cells below {number(float(most))}, "
        f"largest {number(float(largest.max()))}.",
    )
    ceilings = [
        ceiling
        for ceiling in (
            limits.logit_absolute,
            None if limits.logit_relative is None else limits.logit_relative * spread,
        )
        if ceiling is not None
    ]
    yield _figure(
        "Change of logits",
        logit_histogram(changes.logits, min(ceilings, default=None)),
        f"Mean |Δ| {number(report.logit_mean)}, largest {number(report.logit_max)}; the "
        f"reference's logits spread by {number(spread)} (standard deviation)."
        + ("" if ceilings else " Logits have no limit of their own in this variant."),
    )
    flips = int(changes.flipped.sum())
    crosses = f"Crosses: {flips} flips." if flips else "No cell flipped."
    yield _figure(
        "Margin against change",
        change_scatter(
            changes.margins, largest, changes.flipped, (limits.margin, limits.probability)
        ),
        f"One dot a cell. {crosses} No flip is allowed right of the dashed line, no cell above it.",
    )


def _figure(title: str, chart: Html, said: str) -> Html:
    return tag("figure", tag("h3", text(title)), chart, tag("figcaption", text(said)))


def _left_in_float(variant: str, evidence: Evidence) -> Iterator[Html]:
    """Say which parts of a reduced-precision file compute in float32, where that is known."""
    if variant.startswith("int8") and evidence.int8 is not None:
        yield tag("h3", text("What computes in INT8"))
        yield from _int8(evidence)
    if variant == "fp16" and (evidence.fp16 or evidence.fp16_ranges):
        yield tag("h3", text("What computes in FP16"))
        yield from _fp16(evidence)


def _int8(evidence: Evidence) -> Iterator[Html]:
    found = evidence.int8
    assert found is not None  # asked by the caller
    said = (
        f"{found.products} matrix products, calibrated on {found.calibration_crops} crops of the "
        f"training part. Preprocessing, patch embedding and head stay in float."
    )
    yield tag("p", text(said))
    if not found.returned:
        yield tag("p", text("No node went back to float."))
        return
    rows = [
        (
            text(group.name),
            text(len(group.nodes)),
            text(f"{number(group.error_before)} → {number(group.error_after)}"),
            text(f"{number(group.probability_before)} → {number(group.probability_after)}"),
        )
        for group in found.returned
    ]
    yield tag("p", text(f"Went back to float, judged on {found.tuning_crops} tuning crops:"))
    heads = ("nodes", "number", "relative logit error", "max |Δp|")
    yield table(heads, rows, figures=(1, 2, 3))


def _fp16(evidence: Evidence) -> Iterator[Html]:
    found, ranges = evidence.fp16, evidence.fp16_ranges
    if found is not None:
        islands = ", ".join(f"{count} for {reason}" for reason, count in found.islands.items())
        said = f"{found.half_nodes} nodes in FP16; islands of float32: {islands or 'none'}."
        yield tag("p", text(said))
        if found.grown:
            names = tag("span", text(", ".join(found.grown)), class_="mono")
            yield tag("p", text("Float32 because of the range of a value: "), names)
    if ranges is not None:
        said = (
            f"On {ranges.crops} crops the largest magnitude in {ranges.tensors} FP16 tensors is "
            f"{number(ranges.largest)}, limit {number(ranges.limit)}."
        )
        yield tag("p", text(said))
        yield fragment(tag("p", text(reason), class_="alarm") for reason in ranges.failures)


def summary_row(result: VariantResult, anchor: str) -> tuple[Html, ...]:
    """Sum a variant up for the table at the top of the page."""
    verdict = result.verdict
    report = result.links[0].report if result.links else None
    limit = f" of {number(report.limits.probability)}" if report else ""
    agreed = share(verdict.agreement)
    if verdict.agreement_low is not None:
        agreed += f" (≥ {share(verdict.agreement_low)})"
    counts = (verdict.flips, verdict.critical_flips)
    return (
        badge(verdict.verdict),
        tag("a", text(result.variant), href=f"#{anchor}"),
        text(f"{verdict.engine}, {_provider_of(result)}"),
        text(verdict.n or "–"),
        text(agreed),
        text(number(verdict.probability_max) + limit),
        *(text("–" if count is None else count) for count in counts),
        _speed(result),
    )


def _speed(result: VariantResult) -> Html:
    """Images a second: of INT8 as it was timed by turns with the best float, else in the gate."""
    speed = result.speed
    if speed is None:
        measured = result.links and result.links[0].seconds
        found = result.links[0].report.n / result.links[0].seconds if measured else None
        return text("–" if found is None else f"{found:.3g}")
    beside = f"{speed.against}: {speed.against_images_per_second:.3g}"
    said = beside if speed.worth_it else f"not worth it here; {beside}"
    return fragment((text(f"{speed.images_per_second:.3g} "), tag("small", text(f"({said})"))))
