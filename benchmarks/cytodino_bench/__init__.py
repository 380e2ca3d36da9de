"""Measure a bundle on the machine at hand, parity beside every figure."""
