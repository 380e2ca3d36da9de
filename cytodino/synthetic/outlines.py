"""Outlines of nuclei, from the round one of a blast to the lobes of a neutrophil.

Each function takes the grid, the nucleus's place and radius (micrometres), the direction from the
cell's middle to it (radians) and the number of lobes, and returns the signed distance.
"""

import math
from collections.abc import Callable

import numpy as np

from cytodino.synthetic.morphology import NucleusShape
from cytodino.synthetic.shapes import Grid, Point, blob, bump, chain, ellipse, wobble
from cytodino.synthetic.stain import Field


def _round(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    shape = ellipse(radius, rng.uniform(1.0, 1.1), rng.uniform(0, math.pi))
    return blob(grid, centre, shape * wobble(rng, 0.012))


def _oval(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    shape = ellipse(radius, rng.uniform(1.15, 1.4), turn + math.pi / 2 + rng.normal(0, 0.3))
    return blob(grid, centre, shape * wobble(rng, 0.02))


def _cleft(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    shape = ellipse(radius, rng.uniform(1.0, 1.2), rng.uniform(0, math.pi)) * wobble(rng, 0.025)
    at = turn + math.pi + rng.normal(0, 0.8)
    notch = rng.uniform(0.25, 0.42) * bump(at, rng.uniform(0.1, 0.17))
    return blob(grid, centre, shape * (1.04 - notch))


def _arc(
    grid: Grid,
    centre: Point,
    radius: float,
    turn: float,
    *,
    half: float,
    bend: float,
    rng: np.random.Generator,
) -> Field:
    """Return a sausage bent along an arc, its ends pointing away from ``turn``."""
    thickness = radius * math.sqrt(math.pi / (4 * half * bend + math.pi))
    bow = bend * thickness
    # The mass of an arc lies off its circle's centre, by the sine of the angle over the angle.
    back = bow * math.sin(half) / half
    x0, y0 = centre[0] - back * math.cos(turn), centre[1] - back * math.sin(turn)
    phase = rng.uniform(0, 2 * math.pi)
    discs = []
    for step in np.linspace(-1.0, 1.0, 19).tolist():
        angle = turn + half * step
        waist = 1.0 + 0.1 * math.cos(4.0 * step + phase) + 0.08 * abs(step)
        discs.append((x0 + bow * math.cos(angle), y0 + bow * math.sin(angle), thickness * waist))
    return chain(grid, discs, blend=0.15) + np.float32(0.15)


def _kidney(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    half, bend = rng.uniform(1.15, 1.4), rng.uniform(0.95, 1.25)
    return _arc(grid, centre, radius, turn, half=half, bend=bend, rng=rng)


def _band(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    half, bend = rng.uniform(1.6, 2.05), rng.uniform(1.8, 2.3)
    return _arc(grid, centre, radius, turn, half=half, bend=bend, rng=rng)


def _lobed(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    """Return lobes on an arc, joined by bridges of half a micrometre."""
    size = radius / math.sqrt(lobes)
    pitch = rng.uniform(2.0, 2.3) * size
    bow = pitch / (2 * math.sin(min(math.pi / (lobes + 0.6), math.radians(52))))
    step = 2 * math.asin(pitch / 2 / bow)
    back = bow * 0.75 if lobes == 2 else 0.0
    places = []
    for lobe in range(lobes):
        angle = turn + (lobe - (lobes - 1) / 2) * step + rng.normal(0, 0.06)
        away = bow * rng.uniform(0.85, 1.15)
        places.append(
            (
                centre[0] + away * math.cos(angle) - back * math.cos(turn),
                centre[1] + away * math.sin(angle) - back * math.sin(turn),
            )
        )
    discs = []
    for x, y in places:
        lean, own = rng.uniform(0, math.pi), size * rng.uniform(0.86, 1.06)
        for side in (-0.42, 0.0, 0.42):
            discs.append(
                (
                    x + side * own * math.cos(lean),
                    y + side * own * math.sin(lean),
                    own * (0.9 if side == 0.0 else 0.72),
                )
            )
    for (x, y), (x2, y2) in zip(places, places[1:], strict=False):
        for part in np.linspace(0.25, 0.75, 9).tolist():
            discs.append((x + part * (x2 - x), y + part * (y2 - y), 0.2))
    return chain(grid, discs, blend=0.1)


def _folded(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    """Return broad lobes grown together, as in a monocyte."""
    discs = []
    for lobe in range(lobes):
        angle = turn + 2 * math.pi * (lobe + rng.uniform(-0.15, 0.15)) / (lobes + 0.8)
        away = radius * rng.uniform(0.5, 0.62)
        discs.append(
            (
                centre[0] + away * math.cos(angle),
                centre[1] + away * math.sin(angle),
                radius * rng.uniform(0.5, 0.62),
            )
        )
    return chain(grid, discs, blend=0.22)


def _butterfly(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    """Return two wings with a waist, as in acute promyelocytic leukaemia."""
    across = turn + math.pi / 2
    discs = []
    for side in (-1.0, 1.0):
        away = side * radius * rng.uniform(0.58, 0.68)
        discs.append(
            (
                centre[0] + away * math.cos(across),
                centre[1] + away * math.sin(across),
                radius * rng.uniform(0.66, 0.74),
            )
        )
    discs.append((*centre, radius * 0.3))
    return chain(grid, discs, blend=0.12)


def _clustered(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    """Return many lobes heaped on each other, as in a megakaryocyte."""
    discs = []
    for lobe in range(lobes):
        angle = turn + 2 * math.pi * lobe / lobes + rng.normal(0, 0.2)
        away = radius * rng.uniform(0.45, 0.95)
        discs.append(
            (
                centre[0] + away * math.cos(angle),
                centre[1] + away * math.sin(angle),
                radius * rng.uniform(0.34, 0.48),
            )
        )
    return chain(grid, discs, blend=0.2)


Outliner = Callable[[Grid, Point, float, float, int, np.random.Generator], Field]

OUTLINES: dict[NucleusShape, Outliner] = {
    "round": _round,
    "oval": _oval,
    "cleft": _cleft,
    "kidney": _kidney,
    "band": _band,
    "lobed": _lobed,
    "folded": _folded,
    "butterfly": _butterfly,
    "clustered": _clustered,
}
"""Outlines by the name of their shape."""
