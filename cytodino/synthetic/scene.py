"""A crop: the cell in question, what lies around it, and pictures that hold no whole cell."""

import math

import numpy as np

from cytodino.synthetic.canvas import Canvas
from cytodino.synthetic.cell import draw_body
from cytodino.synthetic.classes import MORPHOLOGY
from cytodino.synthetic.morphology import Morphology
from cytodino.synthetic.shapes import FIELD, Point, blob, dots, ellipse, noise, wobble
from cytodino.synthetic.stain import Dye, single

RED_CELL = 7.4
"""Diameter of a red cell, micrometres."""

_NEIGHBOURS = ("LYT", "EBO", "NGS", "MYB", "MMZ", "NGB")
"""Cells that are common in any marrow, and so turn up at the edge of a crop."""


def draw_scene(canvas: Canvas, row: Morphology, rng: np.random.Generator, *, tint: float) -> None:
    """Draw a whole crop.

    Parameters
    ----------
    canvas : Canvas, empty
    row : Morphology
    rng : Generator
    tint : float, concentration of the veil over the background
    """
    veil = 1.0 + 0.3 * noise(canvas.grid, rng, 6.0) + 0.2 * noise(canvas.grid, rng, 0.8)
    canvas.lay(Dye.ACIDOPHIL, np.clip(veil, 0.0, 3.0) * np.float32(tint))
    radius = row.diameter[1] / 2
    _surroundings(canvas, radius, rng)
    middle = (rng.normal(0, 0.4), rng.normal(0, 0.4))
    if row.scene == "cell":
        draw_body(canvas, row, middle, rng)
    elif row.scene == "smear":
        _smear(canvas, row, middle, rng)
    elif row.scene == "precipitate":
        _precipitate(canvas, row, middle, rng)
    elif row.scene == "debris":
        _debris(canvas, row, middle, rng)
    else:
        _pile(canvas, rng)


def _surroundings(canvas: Canvas, radius: float, rng: np.random.Generator) -> None:
    """Lay red cells, platelets and sometimes another marrow cell around the middle."""
    taken: list[tuple[float, float, float]] = [(0.0, 0.0, radius)]
    if rng.uniform() < 0.25:
        code = _NEIGHBOURS[int(rng.integers(len(_NEIGHBOURS)))]
        row = MORPHOLOGY[code][0]
        size = row.diameter[1] / 2
        place = _free_place(taken, size, rng, squeeze=0.95)
        if place is not None:
            draw_body(canvas, row, place, rng)
            taken.append((*place, size))
    for _ in range(int(rng.integers(4, 12))):
        size = RED_CELL / 2 * rng.uniform(0.88, 1.12)
        place = _free_place(taken, size, rng, squeeze=0.85)
        if place is not None:
            _red_cell(canvas, place, size, rng)
            taken.append((*place, size))
    for _ in range(int(rng.integers(0, 3))):
        place = _free_place(taken, 1.2, rng, squeeze=1.0)
        if place is not None:
            _platelet(canvas, place, rng)


def _free_place(
    taken: list[tuple[float, float, float]],
    radius: float,
    rng: np.random.Generator,
    *,
    squeeze: float,
) -> Point | None:
    """Return a place that touches nothing, or None; ``squeeze`` below 1 lets cells overlap."""
    reach = FIELD / 2 + radius * 0.6
    for _ in range(12):
        x, y = rng.uniform(-reach, reach), rng.uniform(-reach, reach)
        if all(math.hypot(x - a, y - b) > squeeze * (radius + r) for a, b, r in taken):
            return x, y
    return None


def _red_cell(canvas: Canvas, place: Point, radius: float, rng: np.random.Generator) -> None:
    """Draw a disc that is thin in the middle: the central pallor."""
    grid = canvas.grid
    shape = ellipse(radius, rng.uniform(1.0, 1.25), rng.uniform(0, math.pi)) * wobble(rng, 0.02)
    distance = blob(grid, place, shape)
    pallor = 1.0 / (1.0 + np.exp((distance + np.float32(radius * 0.52)) * 1.9))
    strength = np.float32(rng.uniform(0.75, 1.05))
    body = grid.cover(distance, softness=0.3) * (1.0 - np.float32(0.72) * pallor)
    canvas.lay(Dye.HAEMOGLOBIN, single(body * strength))


def _platelet(canvas: Canvas, place: Point, rng: np.random.Generator) -> None:
    """Draw a small pale body with violet grains."""
    grid = canvas.grid
    radius = rng.uniform(0.8, 1.3)
    distance = blob(grid, place, np.float32(radius) * wobble(rng, 0.08))
    canvas.lay(Dye.BASOPHIL, grid.cover(distance, softness=0.3) * np.float32(0.14))
    number = int(rng.integers(8, 20))
    x = (place[0] + rng.normal(0, radius * 0.4, number)).astype(np.float32)
    y = (place[1] + rng.normal(0, radius * 0.4, number)).astype(np.float32)
    size = np.full(number, 0.16, np.float32)
    grains = dots(grid, x, y, size, np.full_like(size, 0.6), softness=0.3)
    canvas.lay(Dye.AZUR, grains)


def _smear(canvas: Canvas, row: Morphology, middle: Point, rng: np.random.Generator) -> None:
    """Draw a crushed nucleus: no cytoplasm, no outline, drawn out to one side in strands."""
    grid = canvas.grid
    radius = rng.uniform(*row.diameter) / 2
    turn = rng.uniform(0, 2 * math.pi)
    shape = ellipse(radius, rng.uniform(1.05, 1.45), turn) * wobble(rng, 0.1, 2, 8)
    distance = blob(grid, middle, shape) + 0.7 * noise(grid, rng, 1.6)
    along = grid.x * np.float32(math.cos(turn)) + grid.y * np.float32(math.sin(turn))
    soft = 0.5 + np.clip(along / np.float32(radius) + 0.3, 0.0, 1.2)  # the tail frays
    cover = single(1.0 / (1.0 + np.exp(np.clip(distance / soft * 2.2, -30, 30))))
    strands = noise(grid, rng, 0.6, stretch=5.0, turn=turn)
    holes = noise(grid, rng, 1.1)
    density = np.clip(1.0 + 0.17 * strands + 0.24 * holes, 0.1, 2.0)
    canvas.clear(np.clip(cover * 1.6, 0.0, 1.0), 0.8)
    canvas.lay(Dye.CHROMATIN, cover * density * np.float32(rng.uniform(*row.density)))
    canvas.lay(Dye.ACIDOPHIL, cover * np.float32(0.12))


def _precipitate(canvas: Canvas, row: Morphology, middle: Point, rng: np.random.Generator) -> None:
    """Draw grains of dye that fell out on the slide: dark, sharp, in clumps, beside any cell."""
    number = int(rng.integers(160, 420))
    clumps = int(rng.integers(3, 8))
    spread = rng.uniform(*row.diameter) / 2
    home = rng.normal(0, spread * 0.55, (clumps, 2))
    which = rng.integers(0, clumps, number)
    tight = rng.uniform(0.5, 1.9, clumps)[which]
    x = (middle[0] + home[which, 0] + rng.normal(0, 1, number) * tight).astype(np.float32)
    y = (middle[1] + home[which, 1] + rng.normal(0, 1, number) * tight).astype(np.float32)
    radius = np.clip(rng.lognormal(-1.35, 0.45, number), 0.1, 0.9).astype(np.float32)
    strength = rng.uniform(*row.density, number).astype(np.float32)
    canvas.lay(Dye.METACHROME, dots(canvas.grid, x, y, radius, strength))
    canvas.defocus = 0.06


def _debris(canvas: Canvas, row: Morphology, middle: Point, rng: np.random.Generator) -> None:
    """Draw a ragged lump of dried stain and cell fragments, with cracks and a bright halo."""
    grid = canvas.grid
    radius = rng.uniform(*row.diameter) / 2
    turn = rng.uniform(0, math.pi)
    shape = ellipse(radius, rng.uniform(1.2, 2.6), turn) * wobble(rng, 0.16, 2, 12)
    distance = blob(grid, middle, shape) + 0.5 * noise(grid, rng, 0.8)
    cover = grid.cover(distance, softness=0.35)
    canvas.clear(np.clip(1.0 - distance / np.float32(1.2), 0.0, 1.0))
    cracks = np.clip(1.0 - np.abs(noise(grid, rng, 1.5)) * 5.0, 0.0, 1.0)
    texture = np.clip(1.0 + 0.45 * noise(grid, rng, 0.7) - 0.55 * cracks, 0.1, 2.2)
    amount = single(cover * texture * np.float32(rng.uniform(*row.density)))
    mix = rng.uniform(0.2, 0.8)
    canvas.lay(Dye.METACHROME, amount * np.float32(mix))
    canvas.lay(Dye.EOSIN, amount * np.float32(0.7 * (1.0 - mix)))
    canvas.lay(Dye.BASOPHIL, amount * np.float32(0.5 * (1.0 - mix)))


def _pile(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw cells on top of each other and out of focus: nobody could name them."""
    codes = sorted(MORPHOLOGY)
    turn = rng.uniform(0, 2 * math.pi)
    number = int(rng.integers(2, 4))
    for index in range(number):
        rows = [
            row
            for row in MORPHOLOGY[codes[int(rng.integers(len(codes)))]]
            if row.scene == "cell" and row.diameter[1] < 16
        ]
        row = rows[0] if rows else MORPHOLOGY["LYT"][0]
        angle = turn + 2 * math.pi * index / number
        away = rng.uniform(2.2, 4.0)
        place = (away * math.cos(angle), away * math.sin(angle))
        draw_body(canvas, row, place, rng, displace=0.25)
    canvas.defocus = rng.uniform(0.45, 0.75)
