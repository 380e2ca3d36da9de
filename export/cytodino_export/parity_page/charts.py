"""Charts as inline SVG: small functions, colours from the page's style sheet."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytodino.parity import MarginBin
from cytodino_export.parity_page.markup import Html, fragment, number, tag, text

__all__ = ["change_histogram", "change_scatter", "logit_histogram", "margin_bars"]

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 22, 40
"""Margins around the plot, in the units of the SVG."""

SMALLEST = 1e-9
"""A probability in float32 holds no smaller change; smaller ones stand at the left edge."""

MOST_BARS = 48
"""Bars of a histogram; of cells at hand every one can be told from its neighbour."""

Scale = Callable[[float], float]


@dataclass(frozen=True)
class _Axis:
    """Values between two ends, mapped to the plot; by their logarithm where `log` is set."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        ends = (self.low, self.high)
        value = min(max(value, self.low), self.high)
        low, high, at = np.log10((*ends, value)) if self.log else (*ends, value)
        return float(self.start + (at - low) / (high - low) * (self.end - self.start))


def change_histogram(changes: NDArray[np.float64], limit: float) -> Html:
    """Cells by the largest change of a probability, (n,): both axes logarithmic."""
    low, high = _decades(changes, limit)
    axis = _across(low, high, log=True)
    decades = round(np.log10(high / low))
    edges = np.geomspace(low, high, decades * max(2, MOST_BARS // decades) + 1)
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(np.clip(changes, low, high), edges)
    up = _counts_up(counts)
    parts = [
        _count_grid(up, counts),
        _bars(edges, counts, axis, up, lambda left, _: left >= limit * (1 - 1e-9)),
        _decade_ticks(low, high, axis),
        _limit(axis(limit), f"limit {number(limit)}"),
        _named("largest |Δ probability| of a cell", "cells"),
    ]
    return _chart("Cells by their largest change of a probability", parts)


def logit_histogram(changes: NDArray[np.float32], limit: float | None) -> Html:
    """Change of every logit, (n, 21): counts logarithmic, the limit on both sides."""
    values = changes.astype(np.float64).ravel()
    reach = max(float(np.abs(values).max()), limit or 0.0) * 1.08 or 1.0
    axis = _across(-reach, reach)
    edges = np.linspace(-reach, reach, MOST_BARS + 2)  # an odd number of bars: one is around 0
    counts, _ = np.histogram(values, edges)
    up = _counts_up(counts)
    ceiling = np.inf if limit is None else limit
    ticks = [(value, number(value)) for value in (-reach / 1.08, 0.0, reach / 1.08)]
    parts = [
        _count_grid(up, counts),
        _bars(edges, counts, axis, up, lambda left, right: left >= ceiling or right <= -ceiling),
        _ticks(axis, ticks),
        _named("Δ logit, all classes", "logits"),
    ]
    if limit is not None:
        parts.append(_limit(axis(-limit), ""))
        parts.append(_limit(axis(limit), f"limit ± {number(limit)}"))
    return _chart("Change of the logits", parts)


def change_scatter(
    margins: NDArray[np.float64],
    changes: NDArray[np.float64],
    flipped: NDArray[np.bool_],
    limits: tuple[float, float],
) -> Html:
    """Each cell's margin against its largest change; `limits` of margin and of probability."""
    low, high = _decades(changes, limits[1])
    across = _across(0.0, 1.0)
    up = _Axis(low, high, HEIGHT - BOTTOM, TOP, log=True)
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
        _ticks(across, [(value, number(value)) for value in (0, 0.25, 0.5, 0.75, 1)]),
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=level, y2=level, class_="limit"),
        _label(WIDTH - RIGHT, level - 5, f"limit {number(limits[1])}", "said", "end"),
        _limit(across(limits[0]), ""),
        tag("path", d=crosses, class_="flips"),
        _named("margin of the reference", "|Δp|"),
    ]
    return _chart("Margin of each cell against its largest change", parts)


def margin_bars(bins: Sequence[MarginBin], limit: float) -> Html:
    """Cells and flips by the reference's margin; flips at or beyond the limit stand out."""
    pitch, middle, half = 25, 300, 148
    most_cells = max((one.cells for one in bins), default=0) or 1
    most_flips = max((one.flips for one in bins), default=0) or 1
    parts = [
        _label(72, 14, "margin", None, "end"),
        _label(84, 14, "cells", None, "start"),
        _label(middle + 24, 14, "flips: none below the line", None, "start"),
    ]
    for place, one in enumerate(bins):
        y = 24 + place * pitch
        beyond = one.low >= limit
        parts.append(_label(72, y + 13, f"{one.low:g} – {one.high:g}", "value", "end"))
        parts += _row_bar(84, y, one.cells, one.cells / most_cells * half, "bar")
        kind = "beyond" if beyond else "within"
        parts += _row_bar(middle + 24, y, one.flips, one.flips / most_flips * (half - 30), kind)
        if beyond and one.low == min(b.low for b in bins if b.low >= limit):
            parts.append(tag("line", x1=8, x2=WIDTH - 8, y1=y - 4, y2=y - 4, class_="limit"))
    height = 24 + len(bins) * pitch
    return _chart("Cells and flips by the margin of the reference", parts, height)


def _row_bar(x: int, y: int, count: int, length: float, kind: str) -> list[Html]:
    # One cell among thousands has to be seen.
    length = max(length, 2.0) if count else 0.0
    bar = tag("rect", x=x, y=y, width=length, height=17, class_=kind)
    return [bar, _label(x + length + 5, y + 13, str(count), "value", "start")]


def _decades(changes: NDArray[np.float64], limit: float) -> tuple[float, float]:
    """Powers of ten around the changes and the limit."""
    seen = changes[changes > SMALLEST]
    lowest = float(np.quantile(seen, 0.002)) if len(seen) else limit / 10
    lowest = max(SMALLEST, min(lowest, limit / 10))
    highest = max(float(changes.max()), limit * 1.5)
    low = 10.0 ** np.floor(np.log10(lowest) + 1e-9)
    return float(low), float(10.0 ** np.ceil(np.log10(highest) - 1e-9))


def _across(low: float, high: float, *, log: bool = False) -> _Axis:
    return _Axis(low, high, LEFT, WIDTH - RIGHT, log)


def _counts_up(counts: NDArray[np.int64]) -> _Axis:
    # From a half, so that a bar of one cell has a height; room above for the limit's name.
    return _Axis(0.5, max(2.0, float(counts.max()) * 2.5), HEIGHT - BOTTOM, TOP, log=True)


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
    return _level_grid(up, ((float(level), f"{level:,}".replace(",", " ")) for level in levels))


def _decade_grid(low: float, high: float, up: Scale) -> Html:
    powers = range(round(np.log10(low)), round(np.log10(high)) + 1)
    step = 1 if len(powers) <= 6 else 2
    return _level_grid(up, ((10.0**power, _power(power)) for power in powers[::step]))


def _level_grid(up: Scale, levels: Iterable[tuple[float, str]]) -> Html:
    parts = []
    for value, name in levels:
        y = up(value)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(_label(LEFT - 7, y + 4, name, None, "end"))
    return fragment(parts)


def _decade_ticks(low: float, high: float, axis: Scale) -> Html:
    powers = range(round(np.log10(low)), round(np.log10(high)) + 1)
    return _ticks(axis, [(10.0**power, _power(power)) for power in powers])


def _power(power: int) -> str:
    return number(10.0**power)


def _ticks(axis: Scale, ticks: Iterable[tuple[float, str]]) -> Html:
    bottom = HEIGHT - BOTTOM
    parts = [tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis")]
    for value, name in ticks:
        x = axis(value)
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(_label(x, bottom + 16, name, None, "middle"))
    return fragment(parts)


def _limit(x: float, said: str) -> Html:
    line = tag("line", x1=x, x2=x, y1=TOP - 6, y2=HEIGHT - BOTTOM, class_="limit")
    # Written on the side that has room.
    side, shift = ("end", -5.0) if x > WIDTH / 2 else ("start", 5.0)
    return fragment((line, _label(x + shift, TOP + 2, said, "said", side))) if said else line


def _named(across: str, up: str) -> Html:
    middle = (LEFT + WIDTH - RIGHT) / 2
    return fragment(
        (_label(middle, HEIGHT - 4, across, None, "middle"), _label(4, 11, up, None, "start"))
    )


def _label(x: float, y: float, said: str, kind: str | None, anchor: str) -> Html:
    return tag("text", text(said), x=float(x), y=float(y), class_=kind, text_anchor=anchor)


def _chart(name: str, parts: Iterable[Html], height: int = HEIGHT) -> Html:
    box = f"0 0 {WIDTH} {height}"
    return tag("svg", *parts, viewBox=box, class_="chart", role="img", aria_label=name)
