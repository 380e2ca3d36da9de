"""Geometry in micrometres: distances to outlines, and how much of each pixel they cover.

A shape is the (approximate) signed distance to its outline in micrometres, negative inside. The
cover of a pixel follows from the distance, so that edges are smooth at any size of crop.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from cytodino.synthetic.stain import Field, single

Point = tuple[float, float]
"""x, y in micrometres from the middle of the crop."""

FIELD = 20.0
"""Side of a crop, micrometres: near that of the published crops, whose red cells fill a third."""

_ANGLES = 1440
"""Steps of an outline's table of radii: below a pixel at the largest cell and size."""


@dataclass(frozen=True)
class Grid:
    """The pixels of a crop and where they lie."""

    size: int
    """Side, pixels."""
    x: Field
    """(size, size), micrometres right of the middle."""
    y: Field
    """(size, size), micrometres below the middle."""

    @property
    def pixel(self) -> float:
        """Side of a pixel, micrometres."""
        return FIELD / self.size

    def cover(self, distance: Field, softness: float = 0.0) -> Field:
        """Return how much of each pixel a shape covers, 0 to 1, with an edge of some width (um)."""
        edge = max(self.pixel, softness)
        return single(np.clip(0.5 - distance / np.float32(edge), 0.0, 1.0))


@lru_cache(maxsize=4)
def grid_of(size: int) -> Grid:
    """Return the grid of a size; its arrays are shared and read-only."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * np.float32(FIELD)
    x, y = (single(values) for values in np.meshgrid(axis, axis))
    x.setflags(write=False)
    y.setflags(write=False)
    return Grid(size, x, y)


def angles() -> Field:
    """Return the angles of an outline's table, (1440,), radians."""
    return np.arange(_ANGLES, dtype=np.float32) * np.float32(2 * np.pi / _ANGLES)


def blob(grid: Grid, centre: Point, radii: Field) -> Field:
    """Return the distance to an outline given by its radius at each angle of `angles`."""
    x = grid.x - np.float32(centre[0])
    y = grid.y - np.float32(centre[1])
    turn = np.arctan2(y, x) * np.float32(_ANGLES / (2 * np.pi))
    index = turn.astype(np.int32) % _ANGLES
    return single(np.sqrt(x * x + y * y) - radii[index])


def chain(grid: Grid, discs: list[tuple[float, float, float]], blend: float) -> Field:
    """Return the distance to the union of discs (x, y, radius), micrometres.

    Over ``blend`` micrometres neighbours melt into each other and notches are rounded.
    """
    total = np.zeros(grid.x.shape, np.float32)
    for x, y, radius in discs:
        gap = (np.hypot(grid.x - x, grid.y - y) - radius) * np.float32(-1.0 / blend)
        total += np.exp(np.clip(gap, -40.0, 40.0))
    return single(np.log(np.maximum(total, np.float32(1e-30))) * np.float32(-blend))


def wobble(rng: np.random.Generator, amount: float, low: int = 2, high: int = 6) -> Field:
    """Return a smooth random factor around 1 for each angle of `angles`."""
    theta = angles()
    factor = np.ones_like(theta)
    for wave in range(low, high + 1):
        phase = rng.uniform(0, 2 * math.pi)
        factor += np.float32(rng.normal(0, amount / (wave - low + 1))) * np.cos(
            wave * theta + np.float32(phase)
        )
    return factor


def ellipse(radius: float, elongation: float, turn: float) -> Field:
    """Return the radii of an ellipse of the same area as a circle, for `blob`."""
    long, short = radius * math.sqrt(elongation), radius / math.sqrt(elongation)
    theta = angles() - np.float32(turn)
    return single(long * short / np.hypot(short * np.cos(theta), long * np.sin(theta)))


def bump(at: float, width: float) -> Field:
    """Return a bell of height 1 at one angle, radians, for notches and blebs."""
    away = np.angle(np.exp(1j * (angles() - at)))
    return single(np.exp(-0.5 * (away / width) ** 2))


def dots(
    grid: Grid, x: Field, y: Field, radius: Field, strength: Field, softness: float = 0.0
) -> Field:
    """Return many small discs at once; where they overlap the stronger one counts.

    Parameters
    ----------
    grid : Grid
    x, y, radius : float32, (n,), micrometres
    strength : float32, (n,), height of each disc
    softness : float, width of their edge, micrometres

    Returns
    -------
    float32, (size, size)
    """
    picture = np.zeros(grid.size * grid.size, np.float32)
    if len(x) == 0:
        return picture.reshape(grid.size, grid.size)
    edge = max(1.0, softness / grid.pixel)
    reach = math.ceil(float(radius.max()) / grid.pixel + edge / 2) + 1
    steps = np.arange(-reach, reach + 1)
    column = (x + FIELD / 2) / grid.pixel - 0.5
    row = (y + FIELD / 2) / grid.pixel - 0.5
    columns = np.rint(column).astype(np.int64)[:, None, None] + steps[None, None, :]
    rows = np.rint(row).astype(np.int64)[:, None, None] + steps[None, :, None]
    distance = np.hypot(columns - column[:, None, None], rows - row[:, None, None])  # (n, k, k)
    cover = np.clip(0.5 - (distance - radius[:, None, None] / grid.pixel) / edge, 0.0, 1.0)
    # A disc smaller than a pixel must not count as a whole one.
    cover *= np.minimum(1.0, 4.0 * (radius / grid.pixel) ** 2)[:, None, None]
    height = cover * strength[:, None, None]
    seen = (columns >= 0) & (columns < grid.size) & (rows >= 0) & (rows < grid.size)
    place = rows * grid.size + columns
    np.maximum.at(picture, place[seen], height[seen].astype(np.float32))
    return picture.reshape(grid.size, grid.size)


def noise(
    grid: Grid, rng: np.random.Generator, scale: float, *, stretch: float = 1.0, turn: float = 0.0
) -> Field:
    """Return smooth noise, mean 0 and deviation near 1, with features of a size in micrometres.

    ``stretch`` above 1 draws it out into streaks along ``turn`` (radians).
    """
    wide = FIELD if stretch == 1.0 else FIELD * 1.5
    across, along = math.ceil(wide / scale) + 2, math.ceil(wide / (scale * stretch)) + 2
    values = rng.standard_normal((across, along), dtype=np.float32)
    side = round(grid.size * wide / FIELD)
    box = (0.5, 0.5, 0.5 + wide / (scale * stretch), 0.5 + wide / scale)
    picture = Image.fromarray(values).resize((side, side), Image.Resampling.BICUBIC, box=box)
    if stretch != 1.0:
        picture = picture.rotate(-math.degrees(turn), Image.Resampling.BILINEAR)
        start = (side - grid.size) // 2
        picture = picture.crop((start, start, start + grid.size, start + grid.size))
    return np.asarray(picture, np.float32) * np.float32(1.35)
