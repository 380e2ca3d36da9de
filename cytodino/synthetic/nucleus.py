"""The nucleus: its outline, its chromatin, its nucleoli."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cytodino.synthetic.canvas import Canvas
from cytodino.synthetic.morphology import Morphology
from cytodino.synthetic.shapes import (
    Grid,
    blob,
    bump,
    chain,
    dots,
    ellipse,
    noise,
    wobble,
)
from cytodino.synthetic.stain import Dye, Field

Point = tuple[float, float]
"""x, y in micrometres from the crop's middle."""


@dataclass(frozen=True)
class Nucleus:
    """Where a cell's nucleus lies."""

    centre: Point
    """Of its mass, about."""
    radius: float
    """Of the disc of the same area, micrometres."""
    turn: float
    """Direction from the cell's middle to it, radians."""
    distance: Field
    """Signed distance to its outline, micrometres."""


def shape_nucleus(
    grid: Grid,
    row: Morphology,
    middle: Point,
    cell_radius: float,
    turn: float,
    rng: np.random.Generator,
) -> Nucleus:
    """Draw place, size and outline of the nucleus of a cell."""
    share = rng.uniform(*row.nucleus_share)
    radius = math.sqrt(share) * cell_radius
    shift = rng.uniform(*row.eccentricity) * max(0.0, cell_radius * 0.97 - radius)
    centre = (middle[0] + shift * math.cos(turn), middle[1] + shift * math.sin(turn))
    lobes = int(rng.integers(row.lobes[0], row.lobes[1] + 1))
    distance = _OUTLINES[row.nucleus](grid, centre, radius, turn, lobes, rng)
    return Nucleus(centre, radius, turn, distance)


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
    return chain(grid, discs)


def _kidney(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    half, bend = rng.uniform(1.25, 1.5), rng.uniform(0.85, 1.1)
    return _arc(grid, centre, radius, turn, half=half, bend=bend, rng=rng)


def _band(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    half, bend = rng.uniform(1.65, 2.25), rng.uniform(1.75, 2.2)
    return _arc(grid, centre, radius, turn, half=half, bend=bend, rng=rng)


def _lobed(
    grid: Grid, centre: Point, radius: float, turn: float, lobes: int, rng: np.random.Generator
) -> Field:
    """Return lobes on an arc, joined by bridges of half a micrometre."""
    size = radius / math.sqrt(lobes)
    pitch = rng.uniform(2.25, 2.5) * size
    bow = pitch / (2 * math.sin(min(math.pi / (lobes + 0.6), math.radians(52))))
    step = 2 * math.asin(pitch / 2 / bow)
    back = bow * 0.75 if lobes == 2 else 0.0
    places = []
    for lobe in range(lobes):
        angle = turn + (lobe - (lobes - 1) / 2) * step + rng.normal(0, 0.06)
        away = bow * rng.uniform(0.9, 1.1)
        places.append(
            (
                centre[0] + away * math.cos(angle) - back * math.cos(turn),
                centre[1] + away * math.sin(angle) - back * math.sin(turn),
            )
        )
    discs = []
    for x, y in places:
        lean, own = rng.uniform(0, math.pi), size * rng.uniform(0.86, 1.06)
        for side in (-0.3, 0.0, 0.3):
            discs.append(
                (
                    x + side * own * math.cos(lean),
                    y + side * own * math.sin(lean),
                    own * (0.95 if side == 0.0 else 0.82),
                )
            )
    for (x, y), (x2, y2) in zip(places, places[1:], strict=False):
        for part in np.linspace(0.25, 0.75, 9).tolist():
            discs.append((x + part * (x2 - x), y + part * (y2 - y), 0.26))
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
        away = side * radius * rng.uniform(0.66, 0.76)
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


_OUTLINES: dict[str, Callable[[Grid, Point, float, float, int, np.random.Generator], Field]] = {
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


def chromatin(grid: Grid, row: Morphology, nucleus: Nucleus, rng: np.random.Generator) -> Field:
    """Return the relative density of the chromatin, mean near 1, over the whole crop."""
    kind = row.chromatin
    if kind == "spokes":
        return _spokes(grid, nucleus, rng)
    grain, clump, contrast = {
        "fine": (0.35, 1.1, 0.10),
        "lacy": (0.5, 1.3, 0.14),
        "coarse": (0.6, 1.2, 0.21),
        "clumped": (0.7, 1.5, 0.26),
        "dense": (0.5, 1.4, 0.07),
    }[kind]
    texture = 0.55 * noise(grid, rng, grain) + 0.75 * noise(grid, rng, clump)
    if kind in ("coarse", "clumped"):
        texture = np.tanh(1.6 * texture)  # clumps have edges
    rim = np.exp(-((nucleus.distance / np.float32(0.35)) ** 2)) * np.float32(0.12)
    return 1.0 + np.float32(contrast) * texture + rim


def _spokes(grid: Grid, nucleus: Nucleus, rng: np.random.Generator) -> Field:
    """Return clumps set along the membrane like the figures of a clock: the plasma cell."""
    x, y = grid.x - np.float32(nucleus.centre[0]), grid.y - np.float32(nucleus.centre[1])
    away = np.sqrt(x * x + y * y) / np.float32(nucleus.radius)
    figures = int(rng.integers(6, 9))
    angle = np.arctan2(y, x) + 0.25 * noise(grid, rng, 1.5)
    wheel = np.tanh(3.0 * np.cos(figures * angle + np.float32(rng.uniform(0, 6.28))))
    ring = np.clip((away - 0.3) * 3.0, 0.0, 1.0)
    hub = np.clip(1.0 - away * 3.2, 0.0, 1.0)
    return 1.0 + 0.36 * wheel * ring + 0.3 * hub - 0.15 * (1.0 - ring) * (1.0 - hub)


def draw_nucleus(
    canvas: Canvas, row: Morphology, nucleus: Nucleus, cell: Field, rng: np.random.Generator
) -> None:
    """Lay a nucleus on the cell, whose distance is given; it displaces the cytoplasm."""
    grid = canvas.grid
    distance = np.maximum(nucleus.distance, cell + np.float32(0.12))
    cover = grid.cover(distance, softness=0.22)
    canvas.clear(cover, 0.85)
    density = chromatin(grid, row, nucleus, rng) * np.float32(rng.uniform(*row.density))
    canvas.lay(Dye.CHROMATIN, cover * density)
    if row.nucleus in ("folded", "clustered"):
        _fold(canvas, nucleus, cover, rng)
    _nucleoli(canvas, row, nucleus, cover, rng)


def _fold(canvas: Canvas, nucleus: Nucleus, cover: Field, rng: np.random.Generator) -> None:
    """Lay darker lines where a folded nucleus lies double."""
    line = np.abs(noise(canvas.grid, rng, nucleus.radius * 0.75))
    canvas.lay(Dye.CHROMATIN, cover * np.clip(1.0 - line * 5.0, 0.0, 1.0) * np.float32(0.22))


def _nucleoli(
    canvas: Canvas, row: Morphology, nucleus: Nucleus, cover: Field, rng: np.random.Generator
) -> None:
    number = int(rng.integers(row.nucleoli[0], row.nucleoli[1] + 1))
    if number == 0:
        return
    start = rng.uniform(0, 2 * math.pi)
    spread = 0.3 if number == 1 else 0.5
    turn = start + 2 * math.pi * np.arange(number) / number + rng.normal(0, 0.25, number)
    away = nucleus.radius * spread * rng.uniform(0.7, 1.2, number)
    radius = nucleus.radius * rng.uniform(0.17, 0.25, number)
    picture = (
        dots(
            canvas.grid,
            (nucleus.centre[0] + away * np.cos(turn)).astype(np.float32),
            (nucleus.centre[1] + away * np.sin(turn)).astype(np.float32),
            radius.astype(np.float32),
            np.ones(number, np.float32),
        )
        * cover
    )
    canvas.scale(Dye.CHROMATIN, 1.0 - picture * np.float32(0.5))
    canvas.lay(Dye.BASOPHIL, picture * np.float32(0.16))
