"""Cells of a folder or an archive through an engine, in constant memory."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.base import Engine, batched_logits
from cytodino.errors import EngineError, InputError
from cytodino.taxonomy import N_CLASSES

if TYPE_CHECKING:
    from cytodino.cells import CellSource

__all__ = ["predict_cells"]

BATCHES_A_BLOCK = 8
"""Batches' worth of crops in memory: with a few sizes mixed, most batches are still full."""


def predict_cells(
    engine: Engine,
    cells: "CellSource",
    indices: Sequence[int] | NDArray[np.int64],
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Run the chosen cells through an engine, those of one size together.

    Parameters
    ----------
    engine : Engine
    cells : CellSource
    indices : integers, (n,), which cells
    batch_size : int
        Most crops in one call, at least 1.
    progress : callable, optional
        Called with the number of cells just done, after each batch.

    Returns
    -------
    float32, (n, 21)
        Logits in the order of `indices`.

    Raises
    ------
    InputError
        If the batch size is below 1.
    CropError
        If one of the crops cannot be read; nothing takes its place.
    EngineError
        If the engine fails, or a logit is not finite.
    """
    if batch_size < 1:
        raise InputError(f"a batch of {batch_size} crops", mend="give a batch size of 1 or more")
    logits = np.empty((len(indices), N_CLASSES), dtype=np.float32)
    step = batch_size * BATCHES_A_BLOCK
    for start in range(0, len(indices), step):
        block = [int(index) for index in indices[start : start + step]]
        crops = [cells.read(index) for index in block]
        answers = batched_logits(engine, crops, batch_size, progress)
        _require_finite(answers, [cells.ids[index] for index in block])
        logits[start : start + len(block)] = answers
    return logits


def _require_finite(logits: NDArray[np.float32], ids: list[str]) -> None:
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken.size:
        # The largest of NaNs is the first: argmax would call every such cell ABE.
        raise EngineError(
            "the engine's logits are not finite",
            where=ids[int(broken[0])],
            mend="choose another engine or variant, fp32 first",
        )
