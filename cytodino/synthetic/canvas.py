"""The preparation before it is photographed: how much of each dye lies where."""

import numpy as np

from cytodino.synthetic.shapes import Grid
from cytodino.synthetic.stain import Dye, Field


class Canvas:
    """Concentrations of the dyes over a crop.

    Parameters
    ----------
    grid : Grid
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.dyes: Field = np.zeros((len(Dye), grid.size, grid.size), np.float32)
        self.defocus = 0.0
        """Of this picture beside the slide's own, standard deviation in micrometres."""

    def lay(self, dye: Dye, amount: Field) -> None:
        """Add a dye; amount is (size, size), concentration."""
        self.dyes[dye] += amount

    def scale(self, dye: Dye, factor: Field) -> None:
        """Thin a dye by a factor, (size, size)."""
        self.dyes[dye] *= factor

    def clear(self, cover: Field, share: float = 1.0) -> None:
        """Take away a share of everything where a shape covers the crop."""
        self.dyes *= (1.0 - np.float32(share) * cover)[None]
