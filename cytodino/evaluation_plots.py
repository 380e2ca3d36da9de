"""Plots of an evaluation, as inline SVG."""

from collections.abc import Sequence

from cytodino.bootstrap import Intervals
from cytodino.calibration.evidence import AcceptedCells
from cytodino.calibration.reliability import Reliability, RiskCoverage
from cytodino.metrics import MINIMUM_SUPPORT, Scores
from cytodino.page.chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    across_axis,
    axis_names,
    chart,
    label,
    level_grid,
    tick_marks,
)
from cytodino.page.markup import Html, fragment, tag, text

__all__ = ["figure", "plot_classes", "plot_reliability", "plot_risk"]

QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
STRIP = 46
"""Height of the strip of counts below a reliability diagram."""


def plot_reliability(found: Reliability, name: str) -> Html:
    """Draw accuracy by confidence, the gap to what was claimed, and the cells of each bin."""
    across, up = across_axis(0.0, 1.0), Axis(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    most = max(one.cells for one in found.bins)
    foot = HEIGHT + STRIP
    parts = [level_grid(up, [(at, f"{at:g}") for at in QUARTERS])]
    for one in found.bins:
        if one.accuracy is None or one.confidence is None:
            continue
        left, width = across(one.low), across(one.high) - across(one.low) - 1.5
        middle, top = left + width / 2, up(one.accuracy)
        gap = "beyond" if one.confidence > one.accuracy else "within"
        ends = sorted((top, up(one.confidence)))
        parts += [
            tag("rect", x=left, y=top, width=width, height=HEIGHT - BOTTOM - top, class_="bar"),
            tag("rect", x=middle - 2, y=ends[0], width=4, height=ends[1] - ends[0], class_=gap),
            _count(left, width, foot, one.cells, most),
        ]
    parts += [
        tag("line", x1=across(0), y1=up(0), x2=across(1), y2=up(1), class_="diagonal"),
        tick_marks(across, [(at, f"{at:g}") for at in QUARTERS]),
        axis_names("confidence; below, cells, by their square root", "accuracy"),
        label(LEFT - 7, foot, "0", None, "end"),
        label(LEFT - 7, foot - STRIP + 20, f"{most}", None, "end"),
    ]
    return chart(name, parts, foot + 6)


def _count(left: float, width: float, foot: int, cells: int, most: int) -> Html:
    height = max(1.5, (STRIP - 12) * (cells / most) ** 0.5)  # few among thousands are seen
    return tag("rect", x=left, y=foot - height, width=width, height=height, class_="bar")


def plot_risk(
    curves: Sequence[tuple[str, RiskCoverage]],
    name: str,
    *,
    limit: float | None = None,
    accepted: AcceptedCells | None = None,
    risk: float | None = None,
) -> Html:
    """Draw the risk among the cells that are kept, by how many are kept.

    Parameters
    ----------
    curves : pairs of a class of the style sheet and a curve
    name : str
    limit : float, optional
        Largest risk that is allowed.
    accepted : AcceptedCells, optional
        Marked at its coverage, with `risk`.
    risk : float, optional
    """
    across = across_axis(0.0, 1.0)
    # The first few cells may be all wrong: they must not set the scale.
    settled = [one for _, curve in curves for one in curve.points[len(curve.points) // 20 :]]
    highest = max(one.risk for one in settled)
    highest = max(0.01, 1.1 * max(highest, limit or 0.0, risk or 0.0))
    up = Axis(0.0, highest, HEIGHT - BOTTOM, TOP)
    parts = [level_grid(up, [(at * highest, f"{100 * at * highest:.2g} %") for at in QUARTERS])]
    if limit is not None:
        y = up(limit)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="limit"))
        parts.append(label(LEFT + 4, y - 5, f"allowed {100 * limit:g} %", "said", "start"))
    for kind, curve in curves:
        line = "L".join(f"{across(p.coverage):.1f} {up(p.risk):.1f}" for p in curve.points)
        parts.append(tag("path", d=f"M{line}", class_=f"curve {kind}".strip()))
    if accepted is not None and risk is not None:
        x, y = across(accepted.coverage), up(risk)
        side, shift = ("end", -8.0) if x > WIDTH / 2 else ("start", 8.0)
        parts += [
            tag("circle", cx=x, cy=y, r=4, class_="mark"),
            label(x + shift, y + 16, f"accepted: {100 * risk:.1f} % wrong", "value", side),
        ]
    parts += [
        tick_marks(across, [(at, f"{100 * at:g}") for at in QUARTERS]),
        axis_names("% of the cells kept, the most confident first", "wrong"),
    ]
    return chart(name, parts)


def plot_classes(scores: Scores, intervals: Intervals) -> Html:
    """Draw each class's F1 with its interval; classes of few cells are paler."""
    pitch, left, length = 24, 60.0, WIDTH - 60.0 - 76.0
    rows = [
        (one, spread.f1)
        for one, spread in zip(scores.per_class, intervals.per_class, strict=True)
        if one.support
    ]
    bottom = 22 + pitch * len(rows)
    parts = [
        fragment(
            (
                tag("line", x1=left + at * length, x2=left + at * length, y1=18, y2=bottom,
                    class_="grid"),
                label(left + at * length, 12, f"{100 * at:g}", None, "middle"),
            )
        )
        for at in QUARTERS
    ]  # fmt: skip
    parts.append(label(WIDTH - 4, 12, "cells", None, "end"))
    for place, (one, spread) in enumerate(rows):
        y = 24 + pitch * place
        kind = "bar" if one.support >= MINIMUM_SUPPORT else "few"
        width = max(1.0, one.f1 * length)
        parts += [
            label(left - 8, y + 12, one.code, "value", "end"),
            tag("rect", x=left, y=y, width=width, height=16, class_=kind),
            label(WIDTH - 4, y + 12, str(one.support), "value", "end"),
        ]
        if spread is not None:
            low, high, middle = left + spread[0] * length, left + spread[1] * length, y + 8
            parts.append(
                tag("path", d=f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8"
                    f"M{high:.1f} {middle - 4}v8", class_="whisker")
            )  # fmt: skip
    return chart("F1 of each class, with its 95 % interval", parts, bottom + 8)


def figure(title: str, plot: Html, said: str) -> Html:
    """Put a plot under its title and over its caption."""
    return tag("figure", tag("h3", text(title)), plot, tag("figcaption", text(said)))
