"""How a cell looks: the columns of the table in `classes`."""

from dataclasses import dataclass
from typing import Literal

from cytodino.synthetic.stain import Dye

Range = tuple[float, float]
"""Lowest and highest value of a uniform draw."""

Count = tuple[int, int]
"""Lowest and highest value, both possible, of a whole-number draw."""

NucleusShape = Literal[
    "round", "oval", "cleft", "kidney", "folded", "band", "lobed", "butterfly", "clustered"
]
Chromatin = Literal["fine", "lacy", "coarse", "clumped", "spokes", "dense"]
Outline = Literal["smooth", "wavy", "hairy", "blebs"]
Scene = Literal["cell", "smear", "precipitate", "debris", "pile"]


@dataclass(frozen=True)
class Granules:
    """One population of granules."""

    dye: Dye
    """What they take up, and so their colour."""
    number: Count
    """Granules in the cell."""
    diameter: Range
    """Micrometres; 0.2 is near the limit of a light microscope."""
    strength: float = 0.7
    """Concentration of the dye in a granule."""
    over_nucleus: float = 0.0
    """Share of the granules over the nucleus that is kept, 0 to 1; 1 hides it."""


@dataclass(frozen=True)
class Morphology:
    """How one kind of cell looks, apart from stain and camera."""

    diameter: Range
    """Of the cell, micrometres; a red cell is 7.4."""
    nucleus_share: Range
    """Area of the nucleus over area of the cell: the nuclear-cytoplasmic ratio."""
    nucleus: NucleusShape
    """Shape of the nucleus: it ripens from round over indented and band to lobed."""
    chromatin: Chromatin
    """Texture of the nucleus: fine and open when young, clumped or dense when ripe."""
    density: Range
    """Mean concentration of the nuclear dye; 1 lets a tenth of green light through."""
    lobes: Count = (1, 1)
    """Lobes or folds, for the shapes that have them."""
    eccentricity: Range = (0.0, 0.4)
    """Place of the nucleus: 0 in the middle, 1 touching the cell's edge."""
    elongation: Range = (1.0, 1.15)
    """Length over width of the cell."""
    nucleoli: Count = (0, 0)
    """Pale round bodies in the nucleus, the mark of young cells."""
    basophilia: Range = (0.1, 0.2)
    """Blue of the cytoplasm: RNA, so much in cells that make protein."""
    acidophilia: Range = (0.0, 0.05)
    """Pink of the cytoplasm: neutral granules too fine to be seen one by one."""
    haemoglobin: Range = (0.0, 0.0)
    """Red-cell colour of the cytoplasm, in ripening erythroblasts."""
    hof: Range = (0.0, 0.0)
    """How far the Golgi zone beside the nucleus is paler, 0 to 1."""
    mottle: float = 0.15
    """Unevenness of the cytoplasm."""
    outline: Outline = "smooth"
    """Edge of the cell."""
    granules: tuple[Granules, ...] = ()
    """Populations of granules, drawn in this order."""
    vacuoles: Count = (0, 0)
    """Clear round holes."""
    vacuole_diameter: Range = (0.5, 1.1)
    """Micrometres."""
    rods: Count = (0, 0)
    """Auer rods: thin red-violet needles, in bundles in a faggott cell."""
    scene: Scene = "cell"
    """A whole cell, or one of the pictures that hold none."""
