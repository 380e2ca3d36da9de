"""Adapter into plain weights, in float32, with proof that nothing is left over."""

from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cytodino.engines.base import batched_logits
from cytodino.engines.pytorch import PyTorchEngine
from cytodino.errors import MergeError
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.loading import load_run
from cytodino.modeling.lora import merge_adapter
from cytodino.run import Run

__all__ = ["load_unmerged", "logits_of", "merge"]

BATCH_SIZE = 8
"""Crops in one call of PyTorch; what must be equal keeps its batch size."""


def load_unmerged(run: Run) -> CytoDino:
    """Load a run's model as it was trained, adapter beside the weights, float32.

    Raises
    ------
    InputError
        If the backbone is gone or has changed, or the head does not fit.
    MergeError
        If an adapter key finds no place in the backbone, or one of its places gets no key.
    """
    return load_run(run, merged=False)


def merge(model: CytoDino) -> CytoDino:
    """Add the adapter to the weights in place; a model without one is returned as it is.

    Raises
    ------
    MergeError
        If merging gives NaN or leaves adapter weights behind.
    """
    from peft import PeftModel

    if isinstance(model.backbone, PeftModel):
        model.backbone = cast(nn.Module, merge_adapter(model.backbone))
    left = [name for name, _ in model.named_parameters() if "lora_" in name]
    if left:
        raise MergeError(
            f"{len(left)} adapter weights are left after merging (first: {left[0]})",
            mend="train the adapter again with LoRA on linear layers only",
        )
    return model.eval()


def logits_of(model: nn.Module, crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Logits of crops of any sizes in PyTorch on the CPU, float32 (n, 21)."""
    return batched_logits(PyTorchEngine(model), crops, BATCH_SIZE)
