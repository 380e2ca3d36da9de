"""What tells the 21 classes apart, as a table.

Each class is one or more `Morphology` rows; a cell takes one of them at random and then draws
every range. The rows follow what textbooks of bone-marrow cytology describe, simplified to what
a drawing can show; sizes are those of cells spread on a slide.
"""

from cytodino.synthetic.morphology import Granules, Morphology
from cytodino.synthetic.stain import Dye

_DUST = Granules(Dye.AZUR, (60, 120), (0.18, 0.26), 0.22)
_NEUTRAL = Granules(Dye.AZUR, (240, 340), (0.18, 0.28), 0.2)
_AZUROPHILIC = Granules(Dye.AZUR, (190, 290), (0.32, 0.58), 0.7, over_nucleus=0.65)
_EOSINOPHILIC = Granules(Dye.EOSIN, (380, 500), (0.6, 0.88), 0.85)

_PROMYELOCYTE = Morphology(
    diameter=(15.0, 17.5),
    nucleus_share=(0.45, 0.58),
    nucleus="oval",
    chromatin="fine",
    density=(0.62, 0.74),
    eccentricity=(0.5, 0.9),
    nucleoli=(1, 2),
    basophilia=(0.34, 0.46),
    hof=(0.5, 0.8),
    granules=(_AZUROPHILIC,),
)

MORPHOLOGY: dict[str, tuple[Morphology, ...]] = {
    "ABE": (
        Morphology(
            diameter=(13.5, 16.0),
            nucleus_share=(0.36, 0.48),
            nucleus="kidney",
            chromatin="coarse",
            density=(0.66, 0.8),
            eccentricity=(0.5, 0.9),
            basophilia=(0.1, 0.2),
            acidophilia=(0.1, 0.2),
            granules=(
                Granules(Dye.EOSIN, (170, 240), (0.6, 0.9), 0.8),
                Granules(Dye.METACHROME, (40, 75), (0.7, 1.25), 0.85, over_nucleus=0.3),
            ),
        ),
    ),
    "ART": (
        Morphology((9.0, 14.0), (0.0, 0.0), "round", "dense", (0.8, 1.2), scene="precipitate"),
        Morphology((7.0, 13.0), (0.0, 0.0), "round", "dense", (0.4, 0.8), scene="debris"),
    ),
    "BAS": (
        Morphology(
            diameter=(11.0, 13.0),
            nucleus_share=(0.36, 0.46),
            nucleus="lobed",
            lobes=(2, 3),
            chromatin="coarse",
            density=(0.42, 0.55),
            basophilia=(0.02, 0.06),
            acidophilia=(0.14, 0.24),
            granules=(Granules(Dye.METACHROME, (85, 150), (0.45, 1.15), 1.0, over_nucleus=1.0),),
        ),
    ),
    "BLA": (
        Morphology(
            diameter=(12.5, 15.0),
            nucleus_share=(0.72, 0.82),
            nucleus="round",
            chromatin="fine",
            density=(0.6, 0.7),
            eccentricity=(0.3, 0.9),
            nucleoli=(2, 4),
            basophilia=(0.3, 0.46),
        ),
    ),
    "EBO": (
        Morphology(
            diameter=(8.5, 10.5),
            nucleus_share=(0.34, 0.48),
            nucleus="round",
            chromatin="dense",
            density=(1.15, 1.4),
            eccentricity=(0.0, 0.6),
            basophilia=(0.22, 0.38),
            haemoglobin=(0.15, 0.3),
            mottle=0.08,
        ),
        Morphology(
            diameter=(8.0, 9.5),
            nucleus_share=(0.24, 0.34),
            nucleus="round",
            chromatin="dense",
            density=(1.35, 1.6),
            eccentricity=(0.2, 0.8),
            basophilia=(0.06, 0.14),
            haemoglobin=(0.5, 0.75),
            mottle=0.06,
        ),
    ),
    "EOS": (
        Morphology(
            diameter=(12.5, 15.0),
            nucleus_share=(0.26, 0.34),
            nucleus="lobed",
            lobes=(2, 2),
            chromatin="clumped",
            density=(0.82, 0.98),
            eccentricity=(0.4, 0.8),
            basophilia=(0.0, 0.04),
            acidophilia=(0.1, 0.2),
            granules=(_EOSINOPHILIC,),
        ),
    ),
    "FGC": (
        Morphology(
            diameter=(15.0, 17.5),
            nucleus_share=(0.42, 0.54),
            nucleus="butterfly",
            chromatin="fine",
            density=(0.64, 0.78),
            eccentricity=(0.5, 0.8),
            nucleoli=(0, 1),
            basophilia=(0.06, 0.13),
            acidophilia=(0.16, 0.26),
            outline="wavy",
            granules=(Granules(Dye.AZUR, (220, 320), (0.24, 0.4), 0.42, over_nucleus=0.3),),
            rods=(10, 20),
        ),
    ),
    "HAC": (
        Morphology(
            diameter=(10.0, 12.0),
            nucleus_share=(0.44, 0.56),
            nucleus="oval",
            chromatin="coarse",
            density=(0.72, 0.84),
            basophilia=(0.2, 0.3),
            acidophilia=(0.02, 0.06),
            mottle=0.3,
            outline="hairy",
        ),
    ),
    "KSC": (Morphology((11.0, 16.0), (1.0, 1.0), "round", "lacy", (0.5, 0.72), scene="smear"),),
    "LYI": (
        Morphology(
            diameter=(10.0, 11.8),
            nucleus_share=(0.74, 0.84),
            nucleus="cleft",
            chromatin="lacy",
            density=(0.78, 0.9),
            eccentricity=(0.2, 0.7),
            nucleoli=(0, 1),
            basophilia=(0.48, 0.66),
            outline="wavy",
        ),
    ),
    "LYT": (
        Morphology(
            diameter=(8.0, 9.6),
            nucleus_share=(0.72, 0.85),
            nucleus="round",
            chromatin="clumped",
            density=(0.98, 1.16),
            eccentricity=(0.3, 0.9),
            basophilia=(0.16, 0.28),
        ),
    ),
    "MMZ": (
        Morphology(
            diameter=(12.5, 14.5),
            nucleus_share=(0.38, 0.47),
            nucleus="kidney",
            chromatin="coarse",
            density=(0.74, 0.88),
            eccentricity=(0.5, 0.9),
            basophilia=(0.03, 0.08),
            acidophilia=(0.16, 0.26),
            granules=(_NEUTRAL,),
        ),
    ),
    "MON": (
        Morphology(
            diameter=(14.5, 17.0),
            nucleus_share=(0.42, 0.52),
            nucleus="folded",
            lobes=(3, 4),
            chromatin="lacy",
            density=(0.64, 0.76),
            basophilia=(0.22, 0.3),
            acidophilia=(0.05, 0.1),
            outline="wavy",
            granules=(_DUST,),
            vacuoles=(3, 9),
        ),
    ),
    "MYB": (
        Morphology(
            diameter=(13.0, 15.5),
            nucleus_share=(0.42, 0.52),
            nucleus="oval",
            chromatin="coarse",
            density=(0.68, 0.82),
            eccentricity=(0.6, 1.0),
            basophilia=(0.12, 0.2),
            acidophilia=(0.08, 0.16),
            hof=(0.3, 0.6),
            granules=(Granules(Dye.AZUR, (180, 260), (0.22, 0.34), 0.34, over_nucleus=0.1),),
        ),
    ),
    "NGB": (
        Morphology(
            diameter=(12.0, 14.0),
            nucleus_share=(0.28, 0.35),
            nucleus="band",
            chromatin="clumped",
            density=(0.86, 1.0),
            basophilia=(0.0, 0.04),
            acidophilia=(0.2, 0.3),
            granules=(_NEUTRAL,),
        ),
    ),
    "NGS": (
        Morphology(
            diameter=(12.0, 14.0),
            nucleus_share=(0.29, 0.36),
            nucleus="lobed",
            lobes=(3, 5),
            chromatin="clumped",
            density=(0.98, 1.14),
            basophilia=(0.0, 0.03),
            acidophilia=(0.2, 0.32),
            granules=(_NEUTRAL,),
        ),
    ),
    "NIF": (Morphology((10.0, 15.0), (0.5, 0.8), "oval", "lacy", (0.5, 0.9), scene="pile"),),
    "OTH": (
        Morphology(  # a megakaryocyte, cut by the crop's edge as they are
            diameter=(20.0, 23.0),
            nucleus_share=(0.3, 0.4),
            nucleus="clustered",
            lobes=(6, 9),
            chromatin="coarse",
            density=(0.75, 0.95),
            basophilia=(0.05, 0.12),
            acidophilia=(0.25, 0.38),
            outline="wavy",
            granules=(Granules(Dye.AZUR, (500, 750), (0.22, 0.34), 0.36, over_nucleus=0.2),),
        ),
        Morphology(  # a macrophage: pale, foamy, a small nucleus at the side
            diameter=(18.0, 21.0),
            nucleus_share=(0.12, 0.17),
            nucleus="oval",
            chromatin="lacy",
            density=(0.6, 0.72),
            eccentricity=(0.8, 1.0),
            elongation=(1.0, 1.3),
            nucleoli=(0, 1),
            basophilia=(0.16, 0.24),
            mottle=0.35,
            outline="blebs",
            granules=(Granules(Dye.METACHROME, (8, 25), (0.4, 1.4), 0.5),),
            vacuoles=(30, 55),
            vacuole_diameter=(0.7, 2.2),
        ),
    ),
    "PEB": (
        Morphology(
            diameter=(15.5, 18.0),
            nucleus_share=(0.56, 0.68),
            nucleus="round",
            chromatin="fine",
            density=(0.68, 0.8),
            eccentricity=(0.0, 0.5),
            nucleoli=(1, 3),
            basophilia=(0.85, 1.05),
            hof=(0.3, 0.6),
            outline="blebs",
        ),
    ),
    "PLM": (
        Morphology(
            diameter=(12.0, 14.5),
            nucleus_share=(0.26, 0.35),
            nucleus="round",
            chromatin="spokes",
            density=(0.86, 1.0),
            eccentricity=(0.85, 1.0),
            elongation=(1.25, 1.5),
            basophilia=(0.72, 0.92),
            hof=(0.75, 0.9),
            vacuoles=(0, 2),
        ),
    ),
    "PMO": (_PROMYELOCYTE,),
}
"""Rows by class code; a class with several rows takes each of them equally often."""
