"""One variant's figures: what was allowed, what was found, and whether it holds."""

from collections.abc import Iterator

from cytodino.page.markup import (
    Html,
    badge,
    code,
    fragment,
    number,
    share,
    table,
    tag,
    text,
)
from cytodino.parity import LabelledChange, ParityReport
from cytodino.taxonomy import CODES, CRITICAL, SAFE
from cytodino_export.chain import Invariance, Link

__all__ = ["flip_table", "limits_table", "links_table"]

Row = tuple[str, str, str, bool | str | None]
"""What was judged, the limit, what was found, and whether it holds; None: not judged. A word says
why nothing is proven: that breaks no limit."""


def limits_table(report: ParityReport, invariance: Invariance | None) -> Html:
    """Write every limit with its finding; what has no limit is recorded all the same."""
    rows = [*_found(report), *_labelled(report), *_varied(invariance)]
    shown = [
        (text(what), text(limit), text(found), _held(held)) for what, limit, found, held in rows
    ]
    return table(("", "limit", "found", ""), shown, figures=(1, 2), class_="limits")


def _held(held: bool | str | None) -> Html:
    if held is None:
        return tag("span", text("recorded"), class_="soft")
    if isinstance(held, str):
        return badge("unproven", held)
    return badge("passed", "holds") if held else badge("failed", "broken")


def _found(report: ParityReport) -> Iterator[Row]:
    limits = report.limits
    clear = [flip for flip in report.flips if flip.margin >= limits.margin]
    critical = [flip for flip in clear if flip.critical]
    ceilings = (
        ("largest |Δ probability|", report.probability_max, limits.probability),
        ("largest |Δ logit|", report.logit_max, limits.logit_absolute),
        (
            "largest |Δ logit|, share of the logits' spread",
            report.logit_relative_max,
            limits.logit_relative,
        ),
    )
    yield f"flips where the margin is at least {limits.margin:g}", "0", str(len(clear)), not clear
    yield (
        "critical flips among those",
        str(limits.critical_flips),
        str(len(critical)),
        len(critical) <= limits.critical_flips,
    )
    for name, value, ceiling in ceilings:
        held = None if ceiling is None else value <= ceiling
        yield name, "–" if ceiling is None else f"≤ {number(ceiling)}", number(value), held
    least = limits.agreement
    agreed = f"{share(report.agreement)} (95 % bound {share(report.agreement_low)})"
    yield (
        "same top-1 class, all cells",
        "–" if least is None else f"≥ {least:.0%}".replace("%", " %"),
        agreed,
        None if least is None else report.agreement >= least,
    )
    enough = report.n >= limits.min_cells
    yield "cells compared", f"≥ {limits.min_cells}", str(report.n), enough or "too few"


def _labelled(report: ParityReport) -> Iterator[Row]:
    change = report.labelled
    if change is None:
        return
    judged = report.limits.judge_macro_f1
    held = (change.macro_f1_high or 0.0) >= 0 if judged and change.macro_f1 is not None else None
    limit = "interval reaches 0" if judged else "–"
    yield f"change of macro F1, {change.n} labelled cells", limit, _macro(change), held
    yield "change of weighted F1", "–", _signed(change.weighted_f1), None


def _macro(change: LabelledChange) -> str:
    if change.macro_f1 is None or change.macro_f1_low is None or change.macro_f1_high is None:
        return "no class has 20 cells"
    between = f"{_signed(change.macro_f1_low)} to {_signed(change.macro_f1_high)}"
    return f"{_signed(change.macro_f1)} (95 %: {between})"


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+.4f}".replace("-", "−")


def _varied(invariance: Invariance | None) -> Iterator[Row]:
    if invariance is None:
        return
    for how, value in (
        ("alone", invariance.alone),
        ("in a shuffled batch", invariance.shuffled),
        ("in a padded batch", invariance.padded),
    ):
        limit = f"≤ {number(invariance.limit)}"
        yield f"a cell {how}: |Δp| to a full batch", limit, number(value), value <= invariance.limit


def links_table(links: tuple[Link, ...]) -> Html:
    """Write comparisons one a line: of the chain, or of one variant on other cells."""
    rows = []
    for link in links:
        report = link.report
        # Links are asked not to fail: the verdict, which wants more cells, is the variant's.
        broken = report.verdict == "failed"
        rows.append(
            (
                text(f"{link.reference} → {link.candidate}"),
                text(f"{report.n} {link.cells}"),
                text(link.batch_size),
                text(number(report.probability_max)),
                text(number(report.logit_max)),
                text(share(report.agreement)),
                text(len(report.flips)),
                text(f"{link.seconds:.1f} s"),
                badge("failed", "broken") if broken else badge("passed", "holds"),
            )
        )
    heads = (
        "link",
        "cells",
        "batch",
        "max |Δp|",
        "max |Δ logit|",
        "same top-1",
        "flips",
        "took",
        "",
    )
    return table(heads, rows, figures=(2, 3, 4, 5, 6, 7))


def flip_table(report: ParityReport) -> Html:
    """Write the 21 x 21 flips: rows the reference's class, columns the candidate's."""
    counts = report.flip_table()  # (21, 21)
    head = [tag("th")] + [_class_head(name, "col") for name in CODES]
    rows = [
        tag(
            "tr",
            _class_head(name, "row"),
            *(
                _flip_field(name, other, int(count))
                for other, count in zip(CODES, counts[row], strict=True)
            ),
        )
        for row, name in enumerate(CODES)
    ]
    whole = tag(
        "table", tag("thead", tag("tr", *head)), tag("tbody", fragment(rows)), class_="flips"
    )
    return tag("div", whole, class_="scroll")


def _class_head(name: str, scope: str) -> Html:
    return tag("th", code(name), scope=scope, class_="risky" if name in CRITICAL else None)


def _flip_field(reference: str, candidate: str, count: int) -> Html:
    if reference == candidate:
        return tag("td", class_="same")
    critical = reference in CRITICAL and candidate in SAFE
    kinds = [kind for kind, applies in (("some", count), ("critical", critical)) if applies]
    return tag("td", text(count or ""), class_=" ".join(kinds) or None)
