"""The nucleus: its place, its chromatin, its nucleoli."""

import math
from dataclasses import dataclass

import numpy as np

from cytodino.synthetic.canvas import Canvas
from cytodino.synthetic.morphology import Morphology
from cytodino.synthetic.outlines import OUTLINES
from cytodino.synthetic.shapes import Grid, Point, dots, noise
from cytodino.synthetic.stain import Dye, Field, single


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
    distance = OUTLINES[row.nucleus](grid, centre, radius, turn, lobes, rng)
    return Nucleus(centre, radius, turn, distance)


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
    return single(1.0 + np.float32(contrast) * texture + rim)


def _spokes(grid: Grid, nucleus: Nucleus, rng: np.random.Generator) -> Field:
    """Return clumps set along the membrane like the figures of a clock: the plasma cell."""
    figures = int(rng.integers(7, 10))
    turn = 2 * math.pi * (np.arange(figures) + rng.uniform(0, 1)) / figures
    turn += rng.normal(0, 0.14, figures)
    wheel = np.zeros_like(grid.x)
    for share, size in ((0.82, 0.2), (0.55, 0.14)):  # each clump tapers inwards
        away = nucleus.radius * share * rng.uniform(0.92, 1.06, figures)
        x = (nucleus.centre[0] + away * np.cos(turn)).astype(np.float32)
        y = (nucleus.centre[1] + away * np.sin(turn)).astype(np.float32)
        radius = (nucleus.radius * size * rng.uniform(0.7, 1.35, figures)).astype(np.float32)
        clumps = dots(grid, x, y, radius, np.ones_like(x), softness=0.8)
        np.maximum(wheel, clumps, out=wheel)
    return single(0.76 + 0.6 * wheel + 0.17 * np.tanh(1.6 * noise(grid, rng, 0.8)))


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
            softness=0.5,
        )
        * cover
    )
    canvas.scale(Dye.CHROMATIN, 1.0 - picture * np.float32(0.5))
    canvas.lay(Dye.BASOPHIL, picture * np.float32(0.12))
