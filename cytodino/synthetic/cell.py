"""One nucleated cell: outline, cytoplasm, nucleus, granules, vacuoles, rods."""

import math

import numpy as np

from cytodino.synthetic.canvas import Canvas
from cytodino.synthetic.morphology import Granules, Morphology
from cytodino.synthetic.nucleus import Nucleus, draw_nucleus, shape_nucleus
from cytodino.synthetic.shapes import FIELD, Point, angles, blob, bump, dots, ellipse, noise, wobble
from cytodino.synthetic.stain import Dye, Field


def draw_body(
    canvas: Canvas,
    row: Morphology,
    middle: Point,
    rng: np.random.Generator,
    *,
    displace: float = 1.0,
) -> float:
    """Draw one cell and return its radius, micrometres.

    Parameters
    ----------
    canvas : Canvas
    row : Morphology
    middle : x, y of the cell's middle, micrometres
    rng : Generator
    displace : float
        Share of what lies beneath that the cell pushes away; below 1 it shows through.
    """
    grid = canvas.grid
    radius = rng.uniform(*row.diameter) / 2
    turn = rng.uniform(0, 2 * math.pi)
    cell = blob(grid, middle, _outline(row, radius, turn, rng))
    nucleus = shape_nucleus(grid, row, middle, radius, turn, rng)
    canvas.clear(grid.cover(cell, softness=0.3), displace)
    _cytoplasm(canvas, row, cell, nucleus, radius, rng)
    draw_nucleus(canvas, row, nucleus, cell, rng)
    _vacuoles(canvas, row, middle, radius, cell, nucleus, rng)
    for population in row.granules:
        _granules(canvas, population, middle, radius, cell, nucleus, rng)
    _rods(canvas, row, nucleus, radius, cell, rng)
    return radius


def _outline(row: Morphology, radius: float, turn: float, rng: np.random.Generator) -> Field:
    """Return the radius of the cell's edge at each angle, micrometres."""
    shape = ellipse(radius, rng.uniform(*row.elongation), turn)
    if row.outline == "wavy":
        return shape * wobble(rng, 0.03, 2, 7)
    if row.outline == "hairy":
        return shape * 0.92 * wobble(rng, 0.03) + _hair(rng)
    if row.outline == "blebs":
        for _ in range(int(rng.integers(2, 5))):
            knob = bump(rng.uniform(0, 2 * math.pi), rng.uniform(0.12, 0.25))
            shape = shape * (1.0 + rng.uniform(0.06, 0.14) * knob)
        return shape * wobble(rng, 0.02)
    return shape * wobble(rng, 0.018)


def _hair(rng: np.random.Generator) -> Field:
    """Return fine projections of 0.5 to 2 micrometres, by angle."""
    hair = np.zeros_like(angles())
    for _ in range(int(rng.integers(34, 52))):  # at random, so that some stand in tufts
        length = min(0.35 + rng.exponential(0.6), 2.2)
        strand = bump(rng.uniform(0, 2 * math.pi), rng.uniform(0.02, 0.06))
        np.maximum(hair, np.float32(length) * strand, out=hair)
    return hair


def _cytoplasm(
    canvas: Canvas,
    row: Morphology,
    cell: Field,
    nucleus: Nucleus,
    radius: float,
    rng: np.random.Generator,
) -> None:
    grid = canvas.grid
    cover = grid.cover(cell, softness=0.25)
    mottle = 1.0 + np.float32(row.mottle) * (
        0.6 * noise(grid, rng, 0.5) + 0.6 * noise(grid, rng, 1.4)
    )
    body = cover * np.clip(mottle, 0.2, 2.0)
    blue = body * np.float32(rng.uniform(*row.basophilia))
    # RNA is densest under the membrane, so basophilic cells have a darker seam.
    blue *= 1.0 + np.float32(0.35) * np.exp(-((cell / np.float32(0.9)) ** 2))
    depth = rng.uniform(*row.hof)
    if depth > 0:
        away = nucleus.radius + 0.13 * radius
        x = nucleus.centre[0] - away * math.cos(nucleus.turn)
        y = nucleus.centre[1] - away * math.sin(nucleus.turn)
        spread = np.float32(0.3 * radius)
        zone = np.exp(-(((grid.x - x) ** 2 + (grid.y - y) ** 2) / (2 * spread**2)))
        blue *= 1.0 - np.float32(depth) * zone
    canvas.lay(Dye.BASOPHIL, blue)
    canvas.lay(Dye.ACIDOPHIL, body * np.float32(rng.uniform(*row.acidophilia)))
    canvas.lay(Dye.HAEMOGLOBIN, body * np.float32(rng.uniform(*row.haemoglobin)))


def _scatter(
    number: int, middle: Point, reach: float, rng: np.random.Generator
) -> tuple[Field, Field]:
    """Return points spread evenly over a disc, micrometres."""
    turn = rng.uniform(0, 2 * math.pi, number)
    away = reach * np.sqrt(rng.uniform(0, 1, number))
    x = middle[0] + away * np.cos(turn)
    y = middle[1] + away * np.sin(turn)
    return x.astype(np.float32), y.astype(np.float32)


def _at(field: Field, x: Field, y: Field) -> Field:
    """Read a field at points; points beyond the crop take the edge's value."""
    size = field.shape[0]
    column = np.clip(((x / FIELD + 0.5) * size).astype(np.int64), 0, size - 1)
    row = np.clip(((y / FIELD + 0.5) * size).astype(np.int64), 0, size - 1)
    return np.asarray(field[row, column])


def _granules(
    canvas: Canvas,
    population: Granules,
    middle: Point,
    radius: float,
    cell: Field,
    nucleus: Nucleus,
    rng: np.random.Generator,
) -> None:
    number = int(rng.integers(population.number[0], population.number[1] + 1))
    # The draw fills the whole disc; those over the nucleus and beyond the edge fall away.
    x, y = _scatter(number, middle, radius * 1.1, rng)
    size = (rng.uniform(*population.diameter, number) / 2).astype(np.float32)
    strength = (population.strength * rng.uniform(0.7, 1.15, number)).astype(np.float32)
    chance = rng.uniform(0, 1, number)
    keep = _at(cell, x, y) < -size
    keep &= (_at(nucleus.distance, x, y) > 0.1) | (chance < population.over_nucleus)
    picture = dots(canvas.grid, x[keep], y[keep], size[keep], strength[keep], softness=0.25)
    canvas.lay(population.dye, picture)


def _vacuoles(
    canvas: Canvas,
    row: Morphology,
    middle: Point,
    radius: float,
    cell: Field,
    nucleus: Nucleus,
    rng: np.random.Generator,
) -> None:
    number = int(rng.integers(row.vacuoles[0], row.vacuoles[1] + 1))
    x, y = _scatter(number * 4, middle, radius, rng)
    size = (rng.uniform(*row.vacuole_diameter, number * 4) / 2).astype(np.float32)
    keep = (_at(cell, x, y) < -size - 0.2) & (_at(nucleus.distance, x, y) > size * 0.6)
    x, y, size = x[keep][:number], y[keep][:number], size[keep][:number]
    canvas.clear(dots(canvas.grid, x, y, size, np.full(len(x), 0.85, np.float32)))


def _rods(
    canvas: Canvas,
    row: Morphology,
    nucleus: Nucleus,
    radius: float,
    cell: Field,
    rng: np.random.Generator,
) -> None:
    """Lay bundles of needles in the cytoplasm, on the side away from the nucleus."""
    number = int(rng.integers(row.rods[0], row.rods[1] + 1))
    if number == 0:
        return
    bundles = int(rng.integers(2, 4))
    away = nucleus.radius * 0.72
    xs, ys = [], []
    leans = rng.uniform(0, math.pi, bundles)
    for rod in range(number):
        bundle = rod % bundles
        side = nucleus.turn + math.pi + (bundle - (bundles - 1) / 2) * 0.75
        x = nucleus.centre[0] + (away + 0.2 * radius) * math.cos(side) + rng.normal(0, 0.5)
        y = nucleus.centre[1] + (away + 0.2 * radius) * math.sin(side) + rng.normal(0, 0.5)
        lean = leans[bundle] + rng.normal(0, 0.22)
        step = np.linspace(-0.5, 0.5, 36) * rng.uniform(2.4, 4.2)
        xs.append(x + step * math.cos(lean))
        ys.append(y + step * math.sin(lean))
    x_all = np.concatenate(xs).astype(np.float32)
    y_all = np.concatenate(ys).astype(np.float32)
    keep = _at(cell, x_all, y_all) < -0.3
    x_all, y_all = x_all[keep], y_all[keep]
    thick = np.full(len(x_all), 0.13, np.float32)
    canvas.lay(Dye.AZUR, dots(canvas.grid, x_all, y_all, thick, np.full_like(thick, 1.0)))
