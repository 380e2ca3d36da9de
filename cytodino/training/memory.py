"""What a training needs of a GPU's memory, computed without a GPU and without weights.

Parameters are counted on torch's meta device. What the forward pass keeps for the backward pass is
what autograd saves while tensors without content (fake tensors) go through the model. Not counted:
what the driver and its libraries take, about a gigabyte, and what the allocator cannot use.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers.models.dinov3_vit import modeling_dinov3_vit

from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.loading import open_backbone
from cytodino.recipe import Recipe
from cytodino.training.building import build_model
from cytodino.training.observer import Observer

FLOAT32 = 4
"""Bytes."""


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model in training."""

    frozen: int
    adapter: int
    """0 where there is no adapter."""
    head: int
    other: int
    """Of the backbone's own, where it trains."""

    @property
    def trained(self) -> int:
        """How many train."""
        return self.adapter + self.head + self.other

    @property
    def total(self) -> int:
        """How many there are."""
        return self.frozen + self.trained

    @property
    def adapter_share(self) -> float:
        """Share of the adapter in backbone and adapter, the head left out."""
        return self.adapter / (self.frozen + self.adapter + self.other)


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes on the GPU at the end of a forward pass, where most is held."""

    weights: int
    """All of them, float32."""
    gradients: int
    optimiser: int
    """AdamW's two moments."""
    activations: int
    """What is saved for the backward pass, copies of weights in half the bits among it."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimiser + self.activations


def count_parameters_of(recipe: Recipe, backbone: str) -> ParameterCount:
    """Count the parameters of a recipe's model on one of the named backbones, on the meta device.

    Parameters
    ----------
    recipe : Recipe
    backbone : tiny, small, base or large
    """
    with torch.device("meta"):
        return _count(_build(recipe, backbone))


def compute_need(recipe: Recipe, backbone: str) -> MemoryNeed:
    """Compute what one GPU has to hold for a batch of the recipe's size.

    Parameters
    ----------
    recipe : Recipe
        Its batch size, mixed precision and gradient checkpointing count.
    backbone : tiny, small, base or large
    """
    with torch.device("meta"):
        model = _build(recipe, backbone)
    with _fake():
        model.to_empty(device="cpu").train()
        activations = _activations(model, recipe)
    parameters = _count(model)
    return MemoryNeed(
        weights=FLOAT32 * parameters.total,
        gradients=FLOAT32 * parameters.trained,
        optimiser=2 * FLOAT32 * parameters.trained,
        activations=activations,
    )


def _build(recipe: Recipe, backbone: str) -> CytoDino:
    return build_model(open_backbone(backbone, image_size=recipe.image_size), recipe, Observer())


@contextmanager
def _fake() -> Iterator[None]:
    """Compute with tensors that have no content, and leave none of them behind.

    transformers remembers RoPE's coordinates by their arguments: fake ones would meet the next real
    model of this process.
    """
    remembering = modeling_dinov3_vit.get_patches_center_coordinates
    plain = inspect.unwrap(remembering)
    modeling_dinov3_vit.get_patches_center_coordinates = plain
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        modeling_dinov3_vit.get_patches_center_coordinates = remembering


def _count(model: CytoDino) -> ParameterCount:
    found = {"frozen": 0, "adapter": 0, "head": 0, "other": 0}
    for name, value in model.named_parameters():
        if not value.requires_grad:
            kind = "frozen"
        elif name.startswith("head."):
            kind = "head"
        else:
            kind = "adapter" if ".lora_" in name else "other"
        found[kind] += value.numel()
    return ParameterCount(**found)


def _activations(model: CytoDino, recipe: Recipe) -> int:
    size = recipe.image_size
    pixels = torch.empty(recipe.batch_size, 3, size, size)
    core: Any = model.backbone
    core = core.get_base_model() if isinstance(core, PeftModel) else core
    blocks = [block for block in core.modules() if type(block).__name__ == "DINOv3ViTLayer"]
    inputs: list[tuple[Any, Any]] = []
    handle = blocks[0].register_forward_pre_hook(
        lambda _, args, kwargs: inputs.append((args, kwargs)), with_kwargs=True
    )
    everything = _saved(model, recipe, lambda: model.classify(pixels))
    handle.remove()
    if not recipe.gradient_checkpointing:
        return everything
    args, kwargs = inputs[0]
    args = (args[0].detach().requires_grad_(), *args[1:])
    block = _saved(model, recipe, lambda: blocks[0](*args, **kwargs))
    # Of each block its input stays; one at a time is computed again.
    kept = int(args[0].numel()) * FLOAT32
    return everything - len(blocks) * (block - kept) + block


def _saved(model: nn.Module, recipe: Recipe, forward: Callable[[], torch.Tensor]) -> int:
    """Count the bytes that autograd saves in a forward pass, each storage once."""
    own = {value.untyped_storage()._cdata for value in model.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage  # held, so that no other gets its place
        return tensor

    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    precision = recipe.mixed_precision
    mixed = torch.autocast("cpu", types[precision]) if precision else nullcontext()
    with saved_tensors_hooks(keep, lambda tensor: tensor), mixed:
        output = forward()
    total = sum(int(storage.nbytes()) for storage in found.values())
    del output
    return total
