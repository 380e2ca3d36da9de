"""Bars side by side: one row a candidate, one panel a question."""

from collections.abc import Sequence
from dataclasses import dataclass

from cytodino_bench.drawing import Drawing, Line, Rect, Role, Word

__all__ = ["Bar", "Panel", "bar_chart"]

WIDTH = 800
LABELS = 264
"""Room for the names to the left of the bars."""
FIGURES = 128
"""Room for the figures behind them, at least."""
CHARACTER = 7
"""Width of a character of theirs, at most, on the average."""
ROW, BAR = 24, 15
HEAD = 34
"""Height of a panel's name."""


@dataclass(frozen=True)
class Bar:
    """One row."""

    name: str
    value: float
    said: str
    """The value and its unit, in words."""
    role: Role = "bar"


@dataclass(frozen=True)
class Panel:
    """Rows under one question."""

    name: str
    bars: Sequence[Bar]


def bar_chart(title: str, subtitle: str, panels: Sequence[Panel]) -> Drawing:
    """Draw panels one below the other; in each, bars start at zero and the longest fills it."""
    drawing = Drawing(WIDTH, 0, title)
    drawing.shapes += [
        Word(16, 32, title, size=18),
        Word(16, 52, subtitle, "soft"),
    ]
    top = 66
    for panel in panels:
        top = _draw(drawing, panel, top)
    drawing.height = top + 12
    return drawing


def _draw(drawing: Drawing, panel: Panel, top: int) -> int:
    """Draw one panel from `top` on, and return where the next may begin."""
    drawing.shapes.append(Word(16, top + 22, panel.name, size=14))
    said = max((len(bar.said) for bar in panel.bars), default=0)
    length = WIDTH - LABELS - max(FIGURES, 16 + CHARACTER * said)
    largest = max((bar.value for bar in panel.bars), default=0.0) or 1.0
    y = top + HEAD
    drawing.shapes.append(Line(LABELS, y, LABELS, y + ROW * len(panel.bars), "line"))
    for bar in panel.bars:
        width = max(1.0, bar.value / largest * length)
        base = y + ROW / 2 + 4
        drawing.shapes += [
            Word(LABELS - 8, base, bar.name, anchor="end"),
            Rect(LABELS, y + (ROW - BAR) / 2, width, BAR, bar.role),
            Word(LABELS + width + 6, base, bar.said),
        ]
        y += ROW
    return y + 10
