"""Which cells are trained on, choose the epoch, calibrate, and are looked at once; numpy only."""

from collections.abc import Mapping, Sequence

import numpy as np

from cytodino.taxonomy import CODES

FRACTIONS: dict[str, float] = {"train": 0.6, "calibration": 0.1, "validation": 0.1, "test": 0.2}
"""Share of every class by part, in the order in which a class's shuffled cells are dealt out. The
first part takes what rounding leaves. Calibration was carved out of the end of training: validation
and test hold the cells that they held when there were three parts, so figures stay comparable."""

PRIORITY = ("train", "test", "validation", "calibration")
"""Who is served first in a class of fewer cells than there are parts."""

RULE = (
    "by class, in random order from the seed: each part its share, rounded, and at least one cell; "
    "a class with fewer cells than parts serves train, test, validation, calibration, in this "
    "order, with one cell each"
)


GROUP_RULE = (
    "groups kept whole, the largest first, equal ones in random order from the seed: each goes to "
    "the part that brings the shares of all its classes nearest to the fractions; every part gets "
    "at least one group"
)

FILE_RULE = (
    "as the files say; the parts that they do not name are carved out of what they call train, in "
    "proportion to the fractions: "
)


def split_cells(
    labels: np.ndarray,
    ids: Sequence[str],
    *,
    seed: int,
    fractions: Mapping[str, float] = FRACTIONS,
    priority: Sequence[str] = PRIORITY,
) -> np.ndarray:
    """Divide labelled cells among the parts, class by class.

    The division depends on ids, labels and seed, not on the order in which the cells come: a
    folder and the archive packed from it are divided alike.

    Parameters
    ----------
    labels : int64, (n,), class index
    ids : n names, each once
    seed : int
    fractions : share by part, together 1; the first named takes what rounding leaves
    priority : the same parts, in the order in which a small class serves them

    Returns
    -------
    str, (n,), the part of each cell
    """
    assert set(fractions) == set(priority) and abs(sum(fractions.values()) - 1) < 1e-9
    parts = np.empty(len(labels), dtype=f"<U{max(map(len, fractions))}")
    by_name = np.argsort(np.asarray(ids, dtype=object), kind="stable")
    for label in np.unique(labels):
        members = by_name[labels[by_name] == label]
        order = np.random.default_rng([seed, int(label)]).permutation(members)
        start = 0
        for part, size in part_sizes(len(order), fractions, priority).items():
            parts[order[start : start + size]] = part
            start += size
    return parts


def split_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
    fractions: Mapping[str, float] = FRACTIONS,
) -> np.ndarray:
    """Divide labelled cells among the parts, group by group; see `GROUP_RULE`.

    scikit-learn's StratifiedGroupKFold, whose measure this is, makes folds of one size only.

    Parameters
    ----------
    labels : int64, (n,), class index
    groups : str, (n,), patient or slide; at least as many different ones as there are parts
    seed : int
    fractions : share by part, together 1

    Returns
    -------
    str, (n,), the part of each cell
    """
    names, group = np.unique(groups, return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    assert len(names) >= len(fractions)
    counts = np.zeros((len(names), label.max() + 1))
    np.add.at(counts, (group, label), 1)
    shares = counts / counts.sum(axis=0)  # (groups, classes), of all cells of the class
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    wanted = np.array(list(fractions.values()))[:, None]  # (parts, 1)
    reached = np.zeros((len(fractions), shares.shape[1]))
    chosen = np.full(len(names), -1)
    for left, one in zip(range(len(order), 0, -1), order, strict=True):
        # How much farther from what is wanted each part would be with this group in it.
        cost = ((reached + shares[one] - wanted) ** 2 - (reached - wanted) ** 2).sum(axis=1)
        empty = ~reached.any(axis=1)
        if left <= empty.sum():
            cost[~empty] = np.inf
        chosen[one] = int(cost.argmin())
        reached[chosen[one]] += shares[one]
    parts: np.ndarray = np.array(list(fractions))[chosen[group]]
    return parts


def part_sizes(
    n: int, fractions: Mapping[str, float], priority: Sequence[str] = PRIORITY
) -> dict[str, int]:
    """Return how many of a class's n cells each part gets; see `RULE`."""
    if n < len(fractions):
        return {part: int(priority.index(part) < n) for part in fractions}
    first, *others = fractions
    sizes = {part: max(1, round(n * fractions[part])) for part in others}
    return {first: n - sum(sizes.values()), **sizes}


def count_by_class(labels: np.ndarray) -> dict[str, int]:
    """Count the cells of each class that occurs, by code, in the order of the logits."""
    present, counts = np.unique(labels, return_counts=True)
    return {
        CODES[label]: int(count)
        for label, count in zip(present.tolist(), counts.tolist(), strict=True)
    }
