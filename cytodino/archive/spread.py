"""Spreading work on rows over threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")

PARTS = 8
"""Into which the items are cut: enough to even out two to four threads, and no more, for handing
over one crop alone can take as long as decoding it."""


def spread(pool: Executor | None, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """Do ``work`` on each item, in the pool's threads where there are any; results in order."""
    if pool is None:
        return [work(item) for item in items]

    length = -(-len(items) // PARTS) or 1

    def work_on(first: int) -> list[T]:
        return [work(item) for item in items[first : first + length]]

    return [result for part in pool.map(work_on, range(0, len(items), length)) for result in part]
