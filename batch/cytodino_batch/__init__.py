"""Classify HDF5 archives of cell crops with a bundle; runs without torch."""
