"""Logits of many cells, in PyTorch: for evaluation, for export, and as the reference of parity."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from cytodino.modeling.classifier import CytoDino
from cytodino.taxonomy import N_CLASSES

if TYPE_CHECKING:
    from cytodino.cells import CellSource

_HELD = 4
"""Batches' worth of crops held back, at most, while crops of equal size are gathered."""


def predict(
    model: CytoDino,
    cells: "CellSource",
    indices: Sequence[int] | np.ndarray,
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Run a model over cells of any sizes; crops of equal size share a batch.

    Parameters
    ----------
    model : CytoDino
        Used in evaluation mode, on the device where it is.
    cells : CellSource
    indices : integers, (n,), rows of `cells`
    batch_size : int
    progress : callable, optional
        Called with the number of cells just done.

    Returns
    -------
    float32, (n, 21), logits in the order of `indices`

    Raises
    ------
    CropError
        If a cell cannot be read.
    """
    logits = np.empty((len(indices), N_CLASSES), dtype=np.float32)
    waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
    held = 0
    model.eval()

    def flush(shape: tuple[int, ...]) -> int:
        group = waiting.pop(shape)
        logits[[place for place, _ in group]] = infer(model, np.stack([c for _, c in group]))
        if progress is not None:
            progress(len(group))
        return len(group)

    for place, index in enumerate(indices):
        crop = cells.read(int(index))
        waiting.setdefault(crop.shape, []).append((place, crop))
        held += 1
        if len(waiting[crop.shape]) == batch_size:
            held -= flush(crop.shape)
        elif held == _HELD * batch_size:
            held -= flush(max(waiting, key=lambda shape: len(waiting[shape])))
    for shape in list(waiting):
        flush(shape)
    return logits


def infer(model: CytoDino, crops: np.ndarray) -> np.ndarray:
    """One batch of uint8 crops (n, h, w, 3) to float32 logits (n, 21).

    TensorFloat-32 is off: on CUDA it is on by default for convolutions, and a reference must not
    depend on the device.
    """
    device = next(model.parameters()).device
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False, deterministic=True):
        logits = model(torch.from_numpy(np.ascontiguousarray(crops)).to(device))
    return logits.float().cpu().numpy()  # type: ignore[no-any-return]  # Module.__call__
