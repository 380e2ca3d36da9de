"""LoRA adapters through PEFT: add, save, load with proof, merge.

transformers 4.57 names DINOv3's blocks `layer.N`, transformers 5 `model.layer.N`, and PEFT only
warns when an adapter's keys match nothing. So keys are translated to the backbone at hand, and
loading proves that every key found its place.
"""

import re
from pathlib import Path

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import DINOv3ViTModel

from cytodino.errors import MergeError, MissingPathError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_BLOCK = re.compile(r"(?:\bmodel\.)?\blayer\.(?=\d+\.)")
_AGAIN = "copy the adapter again, or train again"
_MEND = "export with the backbone that the adapter was trained on, or train again"


def add_adapter(
    backbone: DINOv3ViTModel,
    *,
    rank: int = 64,
    alpha: int = 128,
    dropout: float = 0.1,
) -> PeftModel:
    """Freeze a backbone and put an untrained adapter beside each of its linear layers.

    Parameters
    ----------
    backbone : DINOv3ViTModel
        Changed in place: its linear layers are wrapped.
    rank, alpha, dropout
        LoRA's own; the published ones by default.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        bias="none",
    )
    model = get_peft_model(backbone, config)
    assert isinstance(model, PeftModel)
    return model


def save_adapter(model: PeftModel, folder: Path, *, backbone: str) -> None:
    """Write an adapter in PEFT's own format, safetensors only.

    Parameters
    ----------
    model : PeftModel
    folder : Path
    backbone : str
        What `adapter_config.json` shall name as the base model.
    """
    config = model.peft_config["default"]
    assert isinstance(config, LoraConfig)
    config.base_model_name_or_path = backbone
    # Every linear layer of a kind is adapted, so the kinds say it all, in any version's names.
    config.target_modules = sorted(
        {name.split(".lora_A")[0].rpartition(".")[2] for name in _names(model, ".lora_A")}
    )
    # "auto" would ask the Hub about vocabularies, which a vision model does not have.
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # an empty form that PEFT leaves to fill in


def load_adapter(backbone: DINOv3ViTModel, folder: Path, *, trainable: bool = False) -> PeftModel:
    """Put a saved adapter onto a backbone, and prove that every key found its place.

    Parameters
    ----------
    backbone : DINOv3ViTModel
        Changed in place: its linear layers are wrapped.
    folder : Path
        In PEFT's own format, written under transformers 4.57 or 5.

    Raises
    ------
    MissingPathError
        If the adapter's files are not there.
    MergeError
        If the adapter is of another kind, unreadable, or has keys or shapes that do not fit.
    """
    state = {translate(key, backbone): value for key, value in _read_weights(folder).items()}
    config = _read_config(folder)
    # The layers are named one by one: "all-linear" or the other version's names would not do.
    config.target_modules = sorted({_module_of(key) for key in state})
    config.inference_mode = not trainable
    try:
        model = get_peft_model(backbone, config)
    except ValueError as error:
        raise _unplaced(folder, set(state), set()) from error
    except AttributeError as error:  # such as the vocabulary of `trainable_token_indices`
        raise MergeError(
            f"{CONFIG} asks for what DINOv3 does not have: {error}",
            where=folder,
            mend="train the adapter again with LoRA on linear layers only",
        ) from error
    assert isinstance(model, PeftModel)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    if set(expected) != set(state):
        raise _unplaced(folder, set(state) - set(expected), set(expected) - set(state))
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise MergeError(
                f"{key} is {tuple(value.shape)}, the backbone needs {tuple(expected[key].shape)}",
                where=folder,
                mend=_MEND,
            )
    set_peft_model_state_dict(model, state)
    return model


def merge_adapter(model: PeftModel) -> DINOv3ViTModel:
    """Add the adapter to the weights in float32 and return the plain backbone.

    Lower precisions drift (peft#1388). The model is changed in place.

    Raises
    ------
    MergeError
        If the merged weights hold a NaN.
    """
    try:
        merged = model.to(torch.float32).merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise MergeError(f"merging gives NaN: {error}", mend="train the adapter again") from error
    assert isinstance(merged, DINOv3ViTModel)
    return merged


def translate(key: str, backbone: nn.Module) -> str:
    """Name a key's DINOv3 block as the backbone at hand does, `layer.N` or `model.layer.N`.

    The first `base_model.model.` of PEFT's keys is left alone.
    """
    prefix = "base_model.model."
    stem = prefix if key.startswith(prefix) else ""
    return stem + _BLOCK.sub(block_prefix(backbone), key.removeprefix(prefix), count=1)


def block_prefix(backbone: nn.Module) -> str:
    """Return what this version of transformers puts before a block's number."""
    names = (name for name, _ in backbone.named_parameters())
    return next(match.group() for name in names if (match := _BLOCK.search(name)))


def _names(model: nn.Module, part: str) -> list[str]:
    return [name for name, _ in model.named_parameters() if part in name]


def _read_config(folder: Path) -> LoraConfig:
    try:
        config = LoraConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError) as error:
        raise MergeError(f"{CONFIG} cannot be read: {error}", where=folder, mend=_AGAIN) from error
    if not isinstance(config, LoraConfig):
        kind = getattr(config, "peft_type", "unknown")
        raise MergeError(f"is a {kind} adapter", where=folder, mend="give one trained by LoRA")
    if not isinstance(config.r, int) or not isinstance(config.lora_alpha, int | float):
        raise MergeError(f"{CONFIG} has no numbers for r and lora_alpha", where=folder, mend=_AGAIN)
    return config


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise MissingPathError(
                folder / name, mend="give an adapter saved by PEFT as safetensors"
            )
    try:
        state = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise MergeError(
            f"cannot be read: {error}", where=folder / WEIGHTS, mend="copy it again from its source"
        ) from error
    strangers = sorted(key for key in state if ".lora_" not in key)
    if strangers or not state:
        raise _unplaced(folder, set(strangers), set())
    return state


def _module_of(key: str) -> str:
    return key.removeprefix("base_model.model.").split(".lora_")[0]


def _unplaced(folder: Path, unexpected: set[str], missing: set[str]) -> MergeError:
    parts = [
        f"{len(keys)} {word} (first: {', '.join(sorted(keys)[:3])})"
        for word, keys in (("unexpected", unexpected), ("missing", missing))
        if keys
    ]
    said = "; ".join(parts) or "no LoRA weights"
    return MergeError(f"adapter keys do not fit the backbone: {said}", where=folder, mend=_MEND)
