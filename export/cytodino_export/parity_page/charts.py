"""Charts as inline SVG: small functions, colours from the page's style sheet."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cytodino.page.chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Scale,
    across_axis,
    axis_names,
    chart,
    label,
    level_grid,
    limit_line,
    tick_marks,
)
from cytodino.page.markup import Html, fragment, number, tag
from cytodino.parity import MarginBin

__all__ = ["change_histogram", "change_scatter", "logit_histogram", "margin_bars"]

SMALLEST = 1e-9
"""A probability in float32 holds no smaller change; smaller ones stand at the left edge."""

MOST_BARS = 48
"""Bars of a histogram; of cells at hand every one can be told from its neighbour."""


def change_histogram(changes: NDArray[np.float64], limit: float) -> Html:
    """Cells by the largest change of a probability, (n,): both axes logarithmic."""
    low, high = _decades(changes, limit)
    axis = across_axis(low, high, log=True)
    decades = round(np.log10(high / low))
    edges = np.geomspace(low, high, decades * max(2, MOST_BARS // decades) + 1)
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(np.clip(changes, low, high), edges)
    up = _counts_up(counts)
    parts = [
        _count_grid(up, counts),
        _bars(edges, counts, axis, up, lambda left, _: left >= limit * (1 - 1e-9)),
        _decade_ticks(low, high, axis),
        limit_line(axis(limit), f"limit {number(limit)}"),
        axis_names("largest |Δ probability| of a cell", "cells"),
    ]
    return chart("Cells by their largest change of a probability", parts)


def logit_histogram(changes: NDArray[np.float32], limit: float | None) -> Html:
    """Change of every logit, (n, 21): counts logarithmic, the limit on both sides."""
    values = changes.astype(np.float64).ravel()
    reach = max(float(np.abs(values).max()), limit or 0.0) * 1.08 or 1.0
    axis = across_axis(-reach, reach)
    edges = np.linspace(-reach, reach, MOST_BARS + 2)  # an odd number of bars: one is around 0
    counts, _ = np.histogram(values, edges)
    up = _counts_up(counts)
    ceiling = np.inf if limit is None else limit
    ticks = [(value, number(value)) for value in (-reach / 1.08, 0.0, reach / 1.08)]
    parts = [
        _count_grid(up, counts),
        _bars(edges, counts, axis, up, lambda left, right: left >= ceiling or right <= -ceiling),
        tick_marks(axis, ticks),
        axis_names("Δ logit, all classes", "logits"),
    ]
    if limit is not None:
        parts.append(limit_line(axis(-limit), ""))
        parts.append(limit_line(axis(limit), f"limit ± {number(limit)}"))
    return chart("Change of the logits", parts)


def change_scatter(
    margins: NDArray[np.float64],
    changes: NDArray[np.float64],
    flipped: NDArray[np.bool_],
    limits: tuple[float, float],
) -> Html:
    """Each cell's margin against its largest change; `limits` of margin and of probability."""
    low, high = _decades(changes, limits[1])
    across = across_axis(0.0, 1.0)
    up = Axis(low, high, HEIGHT - BOTTOM, TOP, log=True)
    # Cells that fall on one place are drawn once: thousands stay a few kilobytes.
    kept = {
        (round(across(x)), round(up(max(y, low))))
        for x, y in zip(margins[~flipped], changes[~flipped], strict=True)
    }
    dots = "".join(f"M{x} {y}h0" for x, y in sorted(kept))
    crosses = "".join(
        f"M{across(x) - 3.5:.1f} {up(y) - 3.5:.1f}l7 7m0-7l-7 7"
        for x, y in zip(margins[flipped], changes[flipped], strict=True)
    )
    level = up(limits[1])
    parts = [
        _decade_grid(low, high, up),
        tag("path", d=dots, class_="dots"),
        tick_marks(across, [(value, number(value)) for value in (0, 0.25, 0.5, 0.75, 1)]),
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=level, y2=level, class_="limit"),
        label(WIDTH - RIGHT, level - 5, f"limit {number(limits[1])}", "said", "end"),
        limit_line(across(limits[0]), ""),
        tag("path", d=crosses, class_="flips"),
        axis_names("margin of the reference", "|Δp|"),
    ]
    return chart("Margin of each cell against its largest change", parts)


def margin_bars(bins: Sequence[MarginBin], limit: float) -> Html:
    """Cells and flips by the reference's margin; flips at or beyond the limit stand out."""
    pitch, middle, half = 25, 300, 148
    most_cells = max((one.cells for one in bins), default=0) or 1
    most_flips = max((one.flips for one in bins), default=0) or 1
    parts = [
        label(72, 14, "margin", None, "end"),
        label(84, 14, "cells", None, "start"),
        label(middle + 24, 14, "flips: none below the line", None, "start"),
    ]
    for place, one in enumerate(bins):
        y = 24 + place * pitch
        beyond = one.low >= limit
        parts.append(label(72, y + 13, f"{one.low:g} – {one.high:g}", "value", "end"))
        parts += _row_bar(84, y, one.cells, one.cells / most_cells * half, "bar")
        kind = "beyond" if beyond else "within"
        parts += _row_bar(middle + 24, y, one.flips, one.flips / most_flips * (half - 30), kind)
        if beyond and one.low == min(b.low for b in bins if b.low >= limit):
            parts.append(tag("line", x1=8, x2=WIDTH - 8, y1=y - 4, y2=y - 4, class_="limit"))
    height = 24 + len(bins) * pitch
    return chart("Cells and flips by the margin of the reference", parts, height)


def _row_bar(x: int, y: int, count: int, length: float, kind: str) -> list[Html]:
    # One cell among thousands has to be seen.
    length = max(length, 2.0) if count else 0.0
    bar = tag("rect", x=x, y=y, width=length, height=17, class_=kind)
    return [bar, label(x + length + 5, y + 13, str(count), "value", "start")]


def _decades(changes: NDArray[np.float64], limit: float) -> tuple[float, float]:
    """Powers of ten around the changes and the limit."""
    seen = changes[changes > SMALLEST]
    lowest = float(np.quantile(seen, 0.002)) if len(seen) else limit / 10
    lowest = max(SMALLEST, min(lowest, limit / 10))
    highest = max(float(changes.max()), limit * 1.5)
    low = 10.0 ** np.floor(np.log10(lowest) + 1e-9)
    return float(low), float(10.0 ** np.ceil(np.log10(highest) - 1e-9))


def _counts_up(counts: NDArray[np.int64]) -> Axis:
    # From a half, so that a bar of one cell has a height; room above for the limit's name.
    return Axis(0.5, max(2.0, float(counts.max()) * 2.5), HEIGHT - BOTTOM, TOP, log=True)


def _bars(
    edges: NDArray[np.float64],
    counts: NDArray[np.int64],
    axis: Scale,
    up: Scale,
    is_beyond: Callable[[float, float], bool],
) -> Html:
    bars = []
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            x, top = axis(left), up(float(count))
            width = max(1.0, axis(right) - x - 0.8)
            kind = "beyond" if is_beyond(float(left), float(right)) else "bar"
            bars.append(
                tag("rect", x=x, y=top, width=width, height=HEIGHT - BOTTOM - top, class_=kind)
            )
    return fragment(bars)


def _count_grid(up: Scale, counts: NDArray[np.int64]) -> Html:
    levels = [10**power for power in range(6) if 10**power <= counts.max()]
    return level_grid(up, ((float(level), f"{level:,}".replace(",", " ")) for level in levels))


def _decade_grid(low: float, high: float, up: Scale) -> Html:
    powers = range(round(np.log10(low)), round(np.log10(high)) + 1)
    step = 1 if len(powers) <= 6 else 2
    return level_grid(up, ((10.0**power, _power(power)) for power in powers[::step]))


def _decade_ticks(low: float, high: float, axis: Scale) -> Html:
    powers = range(round(np.log10(low)), round(np.log10(high)) + 1)
    return tick_marks(axis, [(10.0**power, _power(power)) for power in powers])


def _power(power: int) -> str:
    return number(10.0**power)
