"""Labelled cells drawn from a seed, for the demo and the tests: numpy and Pillow, no data."""

from cytodino.synthetic.classes import MORPHOLOGY
from cytodino.synthetic.morphology import Granules, Morphology
from cytodino.synthetic.stain import STAINS, Slide, StainProfile, draw_slide
from cytodino.synthetic.writer import draw_cell, draw_sheet, write_sheet, write_slides

__all__ = [
    "MORPHOLOGY",
    "STAINS",
    "Granules",
    "Morphology",
    "Slide",
    "StainProfile",
    "draw_cell",
    "draw_sheet",
    "draw_slide",
    "write_sheet",
    "write_slides",
]
