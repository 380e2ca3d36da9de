"""Confidence that means something: temperature, review threshold with a guarantee, shift; numpy."""

from cytodino.calibration.record import FEWEST_CELLS, Calibration, calibrate
from cytodino.calibration.threshold import Guarantee, Refusal, Targets

__all__ = ["FEWEST_CELLS", "Calibration", "Guarantee", "Refusal", "Targets", "calibrate"]
