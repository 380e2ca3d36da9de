"""`--batch-size auto`: the batch that the opened engine is fast with, found by measurement."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.base import Engine, gather_batches
from cytodino.errors import EngineError

CPU_BATCH = 8
"""Fixed batch size on a CPU: beyond it the engines gain little, and a block costs more memory."""

CUDA_BATCH = 64
"""Fixed batch size on a GPU: fills one without asking for more than a few hundred MB."""

CANDIDATES = {"cpu": (4, 8, 16, 32), "cuda": (32, 64, 128, 256)}
"""Sizes that are tried, by device. OpenVINO cuts a batch into requests of 4 for two streams, so
multiples of 8 keep both busy."""

BUDGET_SECONDS = 3.0
"""What the measurement may take, give or take one batch."""

GOOD_ENOUGH = 0.95
"""The smallest batch is taken that has this share of the best rate: smaller ones waste less at
the end of a block, and two measurements of one machine agree sooner."""


@dataclass(frozen=True)
class BatchChoice:
    """A batch size, and what it was chosen by."""

    size: int
    rates: tuple[tuple[int, float], ...] = ()
    """Crops a second of each size that was tried; empty where nothing was measured."""

    def sentence(self) -> str:
        """Say it in a few words."""
        tried = ", ".join(f"{size}: {rate:.1f}" for size, rate in self.rates)
        return f"batches of {self.size}" + (f" (crops/s by batch: {tried})" if tried else "")


def fixed_batch_size(device: str) -> int:
    """Batch size where nothing may be measured, because several machines have to agree on it."""
    return CUDA_BATCH if device == "cuda" else CPU_BATCH


def measure_batch_size(
    engine: Engine,
    crops: Sequence[NDArray[np.uint8]],
    *,
    budget: float = BUDGET_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> BatchChoice:
    """Try a few batch sizes on the engine, smallest first, and choose.

    A size that the engine has no memory for ends the trial; where even the smallest is too much,
    it is halved until one fits.

    Parameters
    ----------
    engine : Engine
        Warm or not: each size is run once before it is timed.
    crops : sequence of uint8 (h, w, 3), at least one
        Cells such as those to be classified; those of the commonest size are used.
    budget : float
        Seconds.
    clock : function
        Returns seconds.

    Raises
    ------
    EngineError
        If the engine fails on a single crop.
    """
    groups = (batch for _, batch in gather_batches(crops, len(crops)))
    cells = max(groups, key=len)  # (k, h, w, 3)
    end = clock() + budget
    rates: dict[int, float] = {}
    for size in CANDIDATES["cuda" if engine.device == "cuda" else "cpu"]:
        if rates and clock() + 2 * size / max(rates.values()) > end:
            break
        try:
            rates[size] = _rate(engine, cells, size, end, clock)
        except EngineError:
            if not rates:
                size = _halve(engine, cells, size)
                return BatchChoice(size)
            break
    best = max(rates.values())
    size = min(size for size, rate in rates.items() if rate >= GOOD_ENOUGH * best)
    return BatchChoice(size, tuple(rates.items()))


def _rate(
    engine: Engine, cells: NDArray[np.uint8], size: int, end: float, clock: Callable[[], float]
) -> float:
    """Crops a second, the best of up to three batches: another process can only slow one down."""
    batch = cells[np.arange(size) % len(cells)]  # (size, h, w, 3)
    engine.logits(batch)
    best = 0.0
    for _ in range(3):
        begun = clock()
        engine.logits(batch)
        now = clock()
        best = max(best, size / max(now - begun, 1e-9))
        if now > end:
            break
    return best


def _halve(engine: Engine, cells: NDArray[np.uint8], size: int) -> int:
    while size > 1:
        size //= 2
        try:
            engine.logits(cells[np.arange(size) % len(cells)])
        except EngineError:
            if size == 1:
                raise
        else:
            break
    return size
