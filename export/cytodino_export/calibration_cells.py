"""Which cells calibrate INT8 and which tune it: by class and seed, and never the same ones."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytodino.errors import InputError

__all__ = ["draw_cell_sets"]


def draw_cell_sets(
    labels: NDArray[np.int64], ids: Sequence[str], sizes: Sequence[int], seed: int
) -> tuple[NDArray[np.int64], ...]:
    """Draw disjoint sets of cells, each with the classes as even as the data allows.

    A cell's place is decided by its id, its class and the seed, so that the order of the rows
    does not matter. With too few cells the sets shrink in proportion.

    Parameters
    ----------
    labels : int64, (n,)
        Class indices; -1, no label, counts as a class.
    ids : n strings, each once
    sizes : one or more numbers of cells, each at least 1
    seed : int

    Returns
    -------
    int64, (size,), for each size
        Row numbers, ascending.

    Raises
    ------
    InputError
        If there are fewer cells than sets, or labels and ids do not belong together.
    """
    if len(labels) != len(ids) or len(set(ids)) != len(ids):
        raise InputError(f"{len(labels)} labels and {len(set(ids))} ids do not belong together")
    if len(ids) < len(sizes):
        raise InputError(
            f"{len(ids)} cells cannot fill {len(sizes)} sets", mend="give more labelled cells"
        )
    order = _round_robin(labels, ids, seed)
    share = min(1.0, len(order) / sum(sizes))
    sets: list[NDArray[np.int64]] = []
    begin = 0
    for size in sizes:
        end = begin + max(1, int(size * share))
        sets.append(np.sort(order[begin:end]))
        begin = end
    return tuple(sets)


def _round_robin(labels: NDArray[np.int64], ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Rows in an order that takes one cell of each class in turn, as long as there are any."""
    keys = np.array([hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in ids])
    shuffled = np.argsort(keys)  # by id and seed alone
    turn = np.empty(len(ids), dtype=np.int64)
    for label in np.unique(labels):
        of_class = shuffled[labels[shuffled] == label]
        turn[of_class] = np.arange(len(of_class))
    return np.lexsort((keys, turn))
