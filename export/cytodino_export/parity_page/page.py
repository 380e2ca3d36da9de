"""The page as a whole: the verdict first, then what was compared, then each variant."""

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from cytodino.errors import ExportError
from cytodino.page.markup import Html, badge, fragment, number, table, tag, text
from cytodino.page.style import STYLE
from cytodino.taxonomy import CODES
from cytodino_export.chain import ParityChain
from cytodino_export.parity_page.cells import WORST_CELLS, picture_store
from cytodino_export.parity_page.evidence import Evidence
from cytodino_export.parity_page.limits_table import links_table
from cytodino_export.parity_page.variant import name_of, summary_row, variant_section

__all__ = ["parity_page", "write_parity_page"]

_ADVICE = (
    "A variant that passed gave the validated PyTorch model's answers on these cells, on this "
    "machine, within the limits below. One that failed did not. One that is unproven was not "
    "tried here, or on too few cells: treat it as failed until it is proven."
)


def write_parity_page(
    path: Path,
    *,
    chain: ParityChain,
    evidence: Evidence,
    title: str,
    source: Mapping[str, object] | None = None,
    created: datetime | None = None,
    note: str | None = None,
) -> None:
    """Write the page, beside its place and then renamed.

    Parameters
    ----------
    path : Path
        The file; one that exists is replaced.
    chain : ParityChain
        What the gate measured.
    evidence : Evidence
        The acceptance cells and the answers on them.
    title : str
        Names the model, such as the run's or the bundle's folder.
    source : mapping, optional
        Where the acceptance cells come from, as `GateCells.acceptance_source` has it.
    created : datetime, optional
    note : str, optional
        Said at the top, such as that the cells are drawn.

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    page = parity_page(
        chain=chain, evidence=evidence, title=title, source=source, created=created, note=note
    )
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.write_text(page, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ExportError(
            f"cannot be written ({error.strerror})",
            where=path,
            mend="choose a folder that exists, has room and may be written to",
        ) from error


def parity_page(
    *,
    chain: ParityChain,
    evidence: Evidence,
    title: str,
    source: Mapping[str, object] | None = None,
    created: datetime | None = None,
    note: str | None = None,
) -> str:
    """Return the page as text; parameters as for `write_parity_page`."""
    anchors = [f"variant-{place}" for place in range(1, len(chain.variants) + 1)]
    shown = [changes for result in chain.variants if (changes := evidence.changes(result))]
    rows = [row for changes in shown for row in changes.worst(WORST_CELLS)]
    body = [
        *_head(chain, title, created, note),
        _summary(chain, anchors),
        _compared(chain, evidence, source),
        _chain(chain),
        *(
            variant_section(result, evidence, anchor)
            for result, anchor in zip(chain.variants, anchors, strict=True)
        ),
        _foot(),
    ]
    head = tag(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", text(f"Parity: {title}")),
        tag("style", Html(STYLE)),
    )
    inner = tag("body", picture_store(evidence.crops, rows), tag("main", *body))
    return "<!doctype html>\n" + tag("html", head, inner, lang="en") + "\n"


def _head(
    chain: ParityChain, title: str, created: datetime | None, note: str | None
) -> Iterator[Html]:
    yield tag("h1", text(title))
    when = f", {created:%d %B %Y, %H:%M} {created.tzname() or ''}".rstrip() if created else ""
    version = chain.machine.versions.get("cytodino", "")
    yield tag("p", text(f"Parity report of CytoDINO {version}{when}"), class_="soft")
    if note:
        yield tag("p", text(note), class_="note")


def _summary(chain: ParityChain, anchors: list[str]) -> Html:
    parts = [_tally(chain), tag("p", text(_ADVICE))]
    if chain.broken is not None:
        link = chain.broken
        said = (
            f"The chain is broken: {link.candidate} strays from {link.reference} "
            f"({'; '.join(link.report.failures)}). Nothing below may be used, whatever its verdict."
        )
        parts.insert(0, tag("p", badge("failed", "Not usable."), text(" " + said), class_="alarm"))
    heads = (
        *("verdict", "variant", "engine", "cells", "same top-1 (95 % bound)", "max |Δp|"),
        *("flips", "critical", "images/s"),
    )
    rows = [
        summary_row(result, anchor) for result, anchor in zip(chain.variants, anchors, strict=True)
    ]
    if rows:
        parts.append(table(heads, rows, figures=(3, 4, 5, 6, 7, 8)))
    reasons = [
        tag("li", text(f"{name_of(result)}: {'; '.join(result.verdict.reasons)}"))
        for result in chain.variants
        if result.verdict.reasons
    ]
    if reasons:
        parts.append(tag("h3", text("Why not")))
        parts.append(tag("ul", *reasons))
    return tag("div", *parts)


def _tally(chain: ParityChain) -> Html:
    verdicts = [result.verdict.verdict for result in chain.variants]
    if not verdicts:
        return tag("p", text("No variant was measured."), class_="lead")
    counted = [
        badge(kind, f"{verdicts.count(kind)} {kind}")
        for kind in ("passed", "failed", "unproven")
        if kind in verdicts
    ]
    return tag("div", *counted, class_="tally")


def _compared(chain: ParityChain, evidence: Evidence, source: Mapping[str, object] | None) -> Html:
    machine = chain.machine
    groups = ", ".join(f"{count} {name}" for name, count in chain.cells.items())
    facts = [
        ("cells", groups),
        *((f"source, {name}", _listed(value)) for name, value in (source or {}).items()),
        ("labels", _labels(evidence)),
        ("reference", "PyTorch, float32, adapter not merged"),
        (
            "machine",
            f"{machine.computing_on('cuda')}, {machine.cores} cores, {machine.memory_gib} GiB, "
            f"{machine.system}",
        ),
        ("instructions", ", ".join(machine.flags) or "none of interest"),
        (
            "versions",
            ", ".join(
                f"{k} {v}" for k, v in {"python": machine.python, **machine.versions}.items()
            ),
        ),
    ]
    listed = [
        part for name, said in facts for part in (tag("dt", text(name)), tag("dd", text(said)))
    ]
    parts = [tag("h2", text("What was compared")), tag("dl", *listed)]
    if any(result.links for result in chain.variants):
        parts += [tag("h3", text("Limits by variant")), _limits(chain)]
    return tag("section", *parts)


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _labels(evidence: Evidence) -> str:
    known = evidence.labels[evidence.labels >= 0]
    if not len(known):
        return "none: scores cannot be compared, decisions can"
    counts = np.bincount(known, minlength=len(CODES))
    present = ", ".join(f"{name} {n}" for name, n in zip(CODES, counts, strict=True) if n)
    return f"{len(known)} of {len(evidence.labels)} cells: {present}"


def _limits(chain: ParityChain) -> Html:
    limits = {
        result.variant: result.links[0].report.limits for result in chain.variants if result.links
    }
    rows = [
        (
            text(variant),
            text(f"{one.margin:g}"),
            text(number(one.probability)),
            text("–" if one.agreement is None else f"{100 * one.agreement:g} %"),
            text(number(one.logit_absolute)),
            text(number(one.logit_relative)),
            text(one.critical_flips),
            text("judged" if one.judge_macro_f1 else "–"),
            text(one.min_cells),
        )
        for variant, one in limits.items()
    ]
    heads = (
        *("variant", "no flip from margin", "|Δp| at most", "same top-1 at least"),
        *("|Δ logit|", "of the spread", "critical flips", "macro F1", "cells"),
    )
    return table(heads, rows, figures=range(1, 9))


def _chain(chain: ParityChain) -> Html:
    said = (
        "Each step from the trained adapter to the file is held against the one before it; "
        "every variant is held against PyTorch with the adapter unmerged."
    )
    own = tuple(result.links[0] for result in chain.variants if result.links)
    missing = [name_of(result) for result in chain.variants if not result.links]
    parts = [
        tag("h2", text("The chain, link by link")),
        tag("p", text(said)),
        links_table(chain.links + own),
    ]
    if missing:
        parts.append(tag("p", text(f"Not measured: {'; '.join(missing)}."), class_="soft"))
    return tag("section", *parts)


def _foot() -> Html:
    words = (
        ("flip", "a cell whose top-1 class differs from PyTorch's"),
        (
            "margin",
            "PyTorch's top-1 minus its top-2 probability; a flip of a small one is a tie lost",
        ),
        ("critical flip", "PyTorch calls the cell critical, the candidate safe"),
        ("Δp, Δ logit", "candidate minus PyTorch"),
        ("95 % bound", "lower end of the Wilson interval of the agreement"),
    )
    listed = [
        part for word, said in words for part in (tag("dt", text(word)), tag("dd", text(said)))
    ]
    foot = tag("footer", text("Research software, not a medical device."))
    return fragment((tag("section", tag("h2", text("Words")), tag("dl", *listed)), foot))
