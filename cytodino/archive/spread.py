"""Spreading work on rows over threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")

TOGETHER = 4
"""Items that a thread takes at once: handing over each alone takes as long as an lz4 chunk."""


def spread(pool: Executor | None, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """Do ``work`` on each item, in the pool's threads where there are any; results in order."""
    if pool is None:
        return [work(item) for item in items]

    def work_on(first: int) -> list[T]:
        return [work(item) for item in items[first : first + TOGETHER]]

    return [result for part in pool.map(work_on, range(0, len(items), TOGETHER)) for result in part]
