"""The parts that the cells of a run are divided into; nothing heavy, for commands to offer them."""

PARTS = ("train", "validation", "calibration", "test")
"""Trained on; chooses the epoch; fits temperature and review threshold, and nothing else; looked at
once. Older runs have no calibration part."""
