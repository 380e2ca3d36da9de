"""Intervals for proportions, and the softmax that everything shares."""

import math

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""


def wilson_lower(successes: int, n: int, z: float = Z_95) -> float:
    """Lower end of the Wilson score interval of a proportion, 0 to 1.

    Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212. Stays sensible at 0 % and 100 %, where the
    normal approximation collapses to a point.

    Parameters
    ----------
    successes : int, 0 to n
    n : int
        Number of trials; 0 gives 0.
    z : float
        Quantile of the standard normal distribution.
    """
    if n == 0:
        return 0.0
    proportion = successes / n
    centre = proportion + z * z / (2 * n)
    radius = z * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    return max(0.0, (centre - radius) / (1 + z * z / n))


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities from logits, computed in float64.

    Parameters
    ----------
    logits : (..., classes)

    Returns
    -------
    float64, (..., classes), each row summing to 1
    """
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))
