"""Pixels stored as floating-point numbers: the one reading of them, or none."""

import numpy as np

BLACK = 1
"""A crop of floats that is nowhere brighter than this, of 255, was scaled another way."""


def to_bytes(values: np.ndarray, white: float) -> np.ndarray | str:
    """Turn floats from 0 to ``white`` into uint8, or say what is wrong with them.

    uint8 is returned as it is.

    Parameters
    ----------
    values : float or uint8, any shape
    white : what stands for 255: 255.0, and the values are whole numbers; or 1.0
    """
    if values.dtype == np.uint8:
        return values
    if not np.isfinite(values).all():
        return "holds NaN or infinity"
    # Either holds what is stored exactly, and its product with 255.
    wide: np.ndarray = values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64)
    scaled: np.ndarray = np.multiply(wide, 255 / white)
    if scaled.min() < 0 or scaled.max() > 255:
        return f"holds values from {values.min():g} to {values.max():g}, not 0 to {white:g}"
    rounded: np.ndarray = np.rint(scaled)
    if white == 255 and not np.array_equal(rounded, scaled):
        return "holds values that are not whole numbers from 0 to 255"
    if rounded.max() <= BLACK:
        return f"is black, or its values are scaled otherwise than 0 to {white:g}"
    return rounded.astype(np.uint8)
