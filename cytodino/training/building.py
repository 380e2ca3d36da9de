"""The model that a recipe asks for, and the device it trains on."""

import os

import torch
from torch import nn

from cytodino.errors import TrainingError
from cytodino.modeling.backbone import Backbone
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead, fitting_heads
from cytodino.modeling.lora import add_adapter
from cytodino.modeling.preprocessing import Preprocess
from cytodino.recipe import Recipe
from cytodino.training.observer import Observer


def build_model(backbone: Backbone, recipe: Recipe, observer: Observer) -> CytoDino:
    """Put head and, for LoRA, adapter onto a backbone, and let train only what shall.

    Raises
    ------
    TrainingError
        If the image size is no multiple of the backbone's patch.
    """
    patch = int(backbone.model.config.patch_size)
    if recipe.image_size % patch:
        raise TrainingError(
            f"image size {recipe.image_size} is no multiple of the patch, {patch} pixels",
            mend=f"choose {max(1, round(recipe.image_size / patch)) * patch}",
        )
    if backbone.kind == "random" and recipe.tune != "full":
        observer.say(
            f"warning: {backbone.source} has random weights, and --tune {recipe.tune} "
            "leaves them as they are; --tune full trains them"
        )
    hidden = int(backbone.model.config.hidden_size)
    head = DecoderHead(
        hidden,
        layers=recipe.head_layers,
        heads=fitting_heads(hidden, recipe.head_heads),
        dropout=recipe.head_dropout,
    )
    backbone.model.requires_grad_(recipe.tune == "full")
    if recipe.tune == "full":
        # Only pretraining by masking uses it: without a gradient it would only decay.
        backbone.model.embeddings.mask_token.requires_grad_(False)
    core: nn.Module = backbone.model
    if recipe.tune == "lora":
        core = add_adapter(
            backbone.model,
            rank=recipe.lora_rank,
            alpha=recipe.lora_alpha,
            dropout=recipe.lora_dropout,
        )
    return CytoDino(core, head, Preprocess(recipe.image_size))


def choose_device(device: str) -> str:
    """Return cpu or cuda for auto, cpu or cuda.

    Raises
    ------
    TrainingError
        If cuda is asked for and not there, or there is a process for each GPU, who would all write
        the same run.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError(
            "was started once for each GPU",
            mend="start it once: it uses every GPU that CUDA_VISIBLE_DEVICES names",
        )
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise TrainingError("no CUDA device is available", mend="use --device cpu")
    return device if device != "auto" else ("cuda" if present else "cpu")


def default_workers(device: str) -> int:
    """Return how many processes load cells: none on a CPU, where they would only take its cores.

    Measured on 2 cores, a tiny model at 96 pixels: an epoch with two processes was slower.
    """
    return 0 if device == "cpu" else min(8, os.cpu_count() or 1)
