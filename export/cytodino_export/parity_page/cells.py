"""The cells to look at: each picture once in the page, with both models' answers beside it."""

import base64
import io
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytodino.page.markup import Html, code, fragment, number, tag, text
from cytodino.taxonomy import CLASSES, CODES, CRITICAL, SAFE
from cytodino_export.parity_page.evidence import Changes, Evidence

__all__ = ["WORST_CELLS", "picture_store", "worst_cells"]

WORST_CELLS = 20

SIDE = 128
"""Longer side of a picture at most, pixels."""

BUDGET = 1_600_000
"""Bytes of all pictures together: the page is to go by mail."""

QUALITIES = ((SIDE, False), (SIDE, True), (96, True), (64, True))
"""Longer side, and whether the colours are reduced to 256; the first within the budget is taken."""


def picture_store(crops: Sequence[NDArray[np.uint8]], rows: Iterable[int]) -> Html:
    """Hold each picture once, hidden; `worst_cells` shows it by its row, several variants alike."""
    chosen = sorted(set(rows))
    pictures: list[str] = []
    for side, reduced in QUALITIES:
        pictures = [_encode(crops[row], side, reduced=reduced) for row in chosen]
        if sum(map(len, pictures)) <= BUDGET:
            break
    symbols = [
        tag(
            "symbol",
            # In the store a picture fills a square; the shape of the crop is kept.
            tag("image", href=picture, width=SIDE, height=SIDE),
            id=f"cell-{row}",
            viewBox=f"0 0 {SIDE} {SIDE}",
        )
        for row, picture in zip(chosen, pictures, strict=True)
    ]
    return tag("svg", *symbols, class_="store", aria_hidden="true")


def _encode(crop: NDArray[np.uint8], side: int, *, reduced: bool) -> str:
    image = Image.fromarray(crop)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    if reduced:
        image = image.quantize(256, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def worst_cells(evidence: Evidence, changes: Changes, name: str, margin_limit: float) -> Html:
    """Show the cells that changed most as cards, flips first; `name` is the candidate's."""
    cards = [
        _card(evidence, changes, row, name, margin_limit) for row in changes.worst(WORST_CELLS)
    ]
    return tag("div", *cards, class_="cells")


def _card(evidence: Evidence, changes: Changes, row: int, name: str, margin_limit: float) -> Html:
    before, after = changes.reference[row], changes.candidate[row]
    flipped = bool(changes.flipped[row])
    label = int(evidence.labels[row])
    known = f"{CODES[label]}, {CLASSES[label].name}" if label >= 0 else "no label"
    picture = tag(
        "svg",
        tag("use", href=f"#cell-{row}"),
        viewBox=f"0 0 {SIDE} {SIDE}",
        role="img",
        aria_label=f"cell {evidence.ids[row]}, {known}",
    )
    answers = tag(
        "div",
        *((_flip(before, after, float(changes.margins[row]), margin_limit),) if flipped else ()),
        _answer("PyTorch", before, "reference"),
        _answer(name, after, "candidate"),
    )
    moved = int(np.abs(after - before).argmax())
    figures = (
        f"|Δp| {number(float(changes.largest[row]))} in {CODES[moved]}, "
        f"margin {number(float(changes.margins[row]))}"
    )
    foot = tag(
        "div",
        tag("div", text(f"label: {known}" if label >= 0 else known)),
        tag("div", text(figures)),
        tag("div", text(evidence.ids[row]), class_="mono"),
        class_="foot",
    )
    return tag("div", picture, answers, foot, class_="cell flipped" if flipped else "cell")


def _flip(
    before: NDArray[np.float64], after: NDArray[np.float64], margin: float, margin_limit: float
) -> Html:
    first, second = CODES[int(before.argmax())], CODES[int(after.argmax())]
    kind = "critical flip" if first in CRITICAL and second in SAFE else "flip"
    clear = ", clear margin" if margin >= margin_limit else ""
    return tag("div", text(f"{kind}: {first} → {second}{clear}"), class_="said")


def _answer(name: str, probabilities: NDArray[np.float64], kind: str) -> Html:
    """Top-1 and top-2 of one model, with a bar of each probability."""
    lines = [
        tag(
            "div",
            tag("span", code(CODES[index])),
            tag("span", text(f"{probabilities[index]:.3f}")),
            tag("div", tag("i", style=f"width:{100 * probabilities[index]:.1f}%"), class_="meter"),
            class_="answer top" if place == 0 else "answer",
        )
        for place, index in enumerate(np.argsort(-probabilities, kind="stable")[:2])
    ]
    return tag("div", tag("div", text(name), class_="who"), fragment(lines), class_=kind)
