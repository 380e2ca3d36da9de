"""Intervals and tests for proportions, and the softmax that everything shares."""

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


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion, 0 to 1, at the given confidence or more.

    Clopper and Pearson, Biometrika 26 (1934), 404-413: the proportions that neither one-sided
    binomial test at half of 1 - level rejects; the same as the quantiles of beta distributions.

    Parameters
    ----------
    successes : int, 0 to n
    n : int
        Number of trials; 0 tells nothing, and gives 0 to 1.
    level : float
        Confidence, between 0 and 1.
    """
    tail = (1 - level) / 2
    return _exact_lower(successes, n, tail), 1 - _exact_lower(n - successes, n, tail)


def _exact_lower(k: int, n: int, tail: float) -> float:
    """Solve P(X >= k) = tail for the proportion of a binomial X of n trials.

    Newton's method on both logarithms. The left side is the distribution function of a beta
    distribution, whose density is log-concave in log p, so the tangent lies above the curve: from
    the first step on every guess is too small, and they rise to the root.
    """
    if k == 0:
        return 0.0
    if k == n:
        return float(tail ** (1 / n))
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    p, before = k / n, 1.0  # P(X >= k) is at least one half here: the root lies below
    while abs(p - before) > 1e-15 * p:
        # All terms of the tail from its first, which is its largest as long as p <= k / n.
        relative, term, odds = 1.0, 1.0, p / (1 - p)
        for j in range(k, n):
            term *= (n - j) / (j + 1) * odds
            relative += term
            if term < 1e-17 * relative:
                break
        first = ways + k * math.log(p) + (n - k) * math.log1p(-p)
        missing = math.log(tail) - first - math.log(relative)
        before, p = p, p * math.exp(missing * relative / k)
        if p <= before and before < k / n:  # rounding, at the root
            break
    return p


def upper_bound(successes: int, n: int, level: float) -> float:
    """Exact one-sided upper bound of a proportion, 0 to 1, at the given confidence or more.

    Clopper and Pearson's upper limit with all of 1 - level on its side. It lies at or below a
    proportion p exactly where `binomial_tail` at p is at most 1 - level.

    Parameters
    ----------
    successes : int, 0 to n
    n : int
        Number of trials; 0 tells nothing, and gives 1.
    level : float
        Confidence, between 0 and 1.
    """
    return 1 - _exact_lower(n - successes, n, 1 - level) if n else 1.0


def binomial_tail(successes: int, n: int, p: float) -> float:
    """P(X <= successes) of a binomial X of n trials of probability p, between 0 and 1.

    The exact p-value of "the proportion is p or more" against "it is less".

    Parameters
    ----------
    successes : int, 0 to n
    n : int
        Number of trials; 0 gives 1.
    p : float
        Between 0 and 1, both excluded.
    """
    if successes >= n:
        return 1.0
    odds = (1 - p) / p
    if successes > n * p:  # from the other side, where the terms fall from the first on
        return 1 - binomial_tail(n - successes - 1, n, 1 - p)
    relative, term = 1.0, 1.0
    for j in range(successes, 0, -1):
        term *= j / (n - j + 1) * odds
        relative += term
        if term < 1e-17 * relative:
            break
    ways = math.lgamma(n + 1) - math.lgamma(successes + 1) - math.lgamma(n - successes + 1)
    first = ways + successes * math.log(p) + (n - successes) * math.log1p(-p)
    return min(1.0, math.exp(first) * relative)
