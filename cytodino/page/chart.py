"""Charts as inline SVG: axes, grids and words; colours come from the page's style sheet."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from cytodino.page.markup import Html, fragment, tag, text

__all__ = [
    "BOTTOM", "HEIGHT", "LEFT", "RIGHT", "TOP", "WIDTH", "Axis", "Scale", "across_axis",
    "axis_names", "chart", "label", "level_grid", "limit_line", "tick_marks",
]  # fmt: skip

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 22, 40
"""Margins around the plot, in the units of the SVG."""

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Axis:
    """Values between two ends, mapped to the plot; by their logarithm where `log` is set."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Place a value, or the nearer end for one beyond them, in the units of the SVG."""
        ends = (self.low, self.high)
        value = min(max(value, self.low), self.high)
        low, high, at = np.log10((*ends, value)) if self.log else (*ends, value)
        return float(self.start + (at - low) / (high - low) * (self.end - self.start))


def across_axis(low: float, high: float, *, log: bool = False) -> Axis:
    """Axis from the left to the right margin."""
    return Axis(low, high, LEFT, WIDTH - RIGHT, log)


def level_grid(up: Scale, levels: Iterable[tuple[float, str]]) -> Html:
    """Draw a horizontal line with its name at the left for each level."""
    parts = []
    for value, name in levels:
        y = up(value)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(label(LEFT - 7, y + 4, name, None, "end"))
    return fragment(parts)


def tick_marks(axis: Scale, ticks: Iterable[tuple[float, str]]) -> Html:
    """Draw the axis below the plot, with a mark and a name for each tick."""
    bottom = HEIGHT - BOTTOM
    parts = [tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis")]
    for value, name in ticks:
        x = axis(value)
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(label(x, bottom + 16, name, None, "middle"))
    return fragment(parts)


def limit_line(x: float, said: str) -> Html:
    """Draw a dashed vertical line, with words beside it where there are any."""
    line = tag("line", x1=x, x2=x, y1=TOP - 6, y2=HEIGHT - BOTTOM, class_="limit")
    # Written on the side that has room.
    side, shift = ("end", -5.0) if x > WIDTH / 2 else ("start", 5.0)
    return fragment((line, label(x + shift, TOP + 2, said, "said", side))) if said else line


def axis_names(across: str, up: str) -> Html:
    """Name the axes: one below the plot, one above its upper left corner."""
    middle = (LEFT + WIDTH - RIGHT) / 2
    return fragment(
        (label(middle, HEIGHT - 4, across, None, "middle"), label(4, 11, up, None, "start"))
    )


def label(x: float, y: float, said: str, kind: str | None, anchor: str) -> Html:
    """Write words at a place; `kind` is their class in the style sheet."""
    return tag("text", text(said), x=float(x), y=float(y), class_=kind, text_anchor=anchor)


def chart(name: str, parts: Iterable[Html], height: int = HEIGHT) -> Html:
    """Put the parts of a chart into one SVG that says its name to those who cannot see it."""
    box = f"0 0 {WIDTH} {height}"
    return tag("svg", *parts, viewBox=box, class_="chart", role="img", aria_label=name)
