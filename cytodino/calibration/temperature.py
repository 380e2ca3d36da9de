"""Temperature scaling: one number that makes probabilities as bold as they deserve.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017: the logits are divided by T > 0,
found by the likelihood of labelled cells that nothing was trained on. No decision changes, for the
largest logit stays the largest.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cytodino.errors import InputError
from cytodino.statistics import softmax

__all__ = ["HIGHEST", "LOWEST", "fit_temperature", "negative_log_likelihood", "soften"]

LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures that can come out. A model without an error on its cells would want 0, which no
number of cells can support; beyond 20 all probabilities of 21 classes are nearly alike."""

STEPS = 60
"""Halvings of the logarithm of the bounds: below the precision of a float64."""


def soften(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probabilities from logits at a temperature; 1 leaves them as they are.

    Parameters
    ----------
    logits : (..., classes)
    temperature : float, above 0

    Returns
    -------
    float64, (..., classes), each row summing to 1
    """
    return softmax(logits.astype(np.float64) / temperature)


def negative_log_likelihood(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float = 1.0
) -> float:
    """Mean of -log p(label) in nats, computed from logits: no probability is rounded to 0.

    Parameters
    ----------
    logits : (n, classes), n >= 1
    labels : integers, (n,), class indices
    temperature : float, above 0
    """
    scaled = _centred(logits) / temperature
    own = np.take_along_axis(scaled, labels[:, None].astype(np.int64), axis=1)[:, 0]  # (n,)
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - own))


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Find the temperature of the least negative log-likelihood, between `LOWEST` and `HIGHEST`.

    The likelihood is convex in 1 / T: its slope, the mean expected logit minus the mean logit of
    the label, rises with 1 / T, and its zero is found by halving. The same input gives the same
    number, to the bit.

    Parameters
    ----------
    logits : (n, classes), finite
    labels : integers, (n,), class indices

    Raises
    ------
    InputError
        If there is no cell, the lengths differ, or a logit is not finite.
    """
    if len(logits) == 0 or len(logits) != len(labels):
        raise InputError(
            f"{len(logits)} cells with logits and {len(labels)} with labels to find a "
            "temperature with",
            mend="give at least one cell, and a label for each",
        )
    if not np.isfinite(logits).all():
        raise InputError("a logit is not finite", mend="leave the cell out, or mend the model")
    centred = _centred(logits)
    own = np.take_along_axis(centred, labels[:, None].astype(np.int64), axis=1).mean()

    def is_too_bold(temperature: float) -> bool:
        expected = (softmax(centred / temperature) * centred).sum(axis=1).mean()
        return bool(expected > own)

    low, high = math.log(LOWEST), math.log(HIGHEST)
    if not is_too_bold(LOWEST):
        return LOWEST
    if is_too_bold(HIGHEST):
        return HIGHEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_bold(math.exp(middle)) else (low, middle)
    return math.exp((low + high) / 2)


def _centred(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    return np.asarray(wide - wide.max(axis=1, keepdims=True))
