"""DINOv3 backbones: named configurations, local folders, the Hub. Safetensors only, no pickle."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from cytodino.errors import InputError, MissingPathError
from cytodino.modeling.libraries import quiet_libraries
from cytodino.paths import hash_file
from cytodino.recipe import SHAPES

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_MODEL_TYPE = "dinov3_vit"
_MODEL: Any = DINOv3ViTModel
"""Through Any: what its constructors declare to a type checker differs between versions."""
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_ACCESS = (
    "ask for access on the model's page, run `hf auth login`, or give a local folder "
    "written by save_pretrained"
)
_SAVE = "give a folder written by DINOv3ViTModel.save_pretrained"


@dataclass(frozen=True)
class Backbone:
    """A DINOv3 model and where it came from."""

    model: DINOv3ViTModel
    """float32, evaluation mode."""
    source: str
    """As it was asked for."""
    kind: Literal["hub", "folder", "run", "random"]
    folder: Path | None = None
    """Where its weights lie; None if they are random, or merged in memory."""
    revision: str | None = None
    """Commit on the Hub."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of `config.json` and the weights in `folder`."""


def named_config(name: str, *, image_size: int = 256) -> DINOv3ViTConfig:
    """Return one of the configurations of `SHAPES`: patch 16, four registers, as published."""
    hidden, layers, heads = SHAPES[name]
    return DINOv3ViTConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        num_register_tokens=4,
        patch_size=16,
        image_size=image_size,
        key_bias=False,
        layerscale_value=1.0,
    )


def random_backbone(name: str, *, image_size: int = 256) -> Backbone:
    """Make a backbone with random weights, from torch's seed."""
    quiet_libraries()
    model = _MODEL._from_config(
        named_config(name, image_size=image_size),
        attn_implementation="sdpa",
        dtype=torch.float32,
    )
    model.train(False)
    return Backbone(model, name, "random")


def load_backbone(source: str, *, revision: str | None = None) -> Backbone:
    """Load DINOv3 from a local folder or from the Hub.

    Parameters
    ----------
    source : str
        A folder with `config.json` and safetensors, or a Hub id. What exists as a folder is one.
    revision : str, optional
        Commit on the Hub; the newest unless given.

    Raises
    ------
    MissingPathError
        If the source is neither a folder nor looks like a Hub id.
    InputError
        If the Hub refuses or cannot be reached, or the folder does not hold a whole DINOv3 ViT.
    """
    quiet_libraries()
    if Path(source).exists():
        folder = Path(source).resolve()
        return Backbone(load_folder(folder), source, "folder", folder, None, weights_sha256(folder))
    if not _HUB_ID.fullmatch(source):
        raise MissingPathError(
            source, mend=f"give a folder, a Hub id, a run, or one of {', '.join(SHAPES)}"
        )
    folder = _download(source, revision)
    return Backbone(load_folder(folder), source, "hub", folder, folder.name, weights_sha256(folder))


def load_folder(folder: Path) -> DINOv3ViTModel:
    """Load a folder written by `save_pretrained`, and prove that every weight was placed.

    Returns
    -------
    DINOv3ViTModel
        float32, evaluation mode.

    Raises
    ------
    InputError
        If files are missing or damaged, the model is no DINOv3 ViT, or weights do not fit it.
    """
    _require_dinov3(folder)
    weight_files(folder)
    options: dict[str, Any] = {
        "use_safetensors": True,
        "local_files_only": True,
        "dtype": torch.float32,
        "attn_implementation": "sdpa",
        "output_loading_info": True,
    }
    try:
        model, info = _MODEL.from_pretrained(str(folder), **options)
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"the weights cannot be loaded: {error}", where=folder, mend=_SAVE
        ) from error
    problems = [
        f"{len(info[kind])} {kind.removesuffix('_keys')} weights (first: {_first(info[kind])})"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if info[kind]
    ]
    if problems:
        raise InputError(
            f"the weights do not fit the configuration: {'; '.join(problems)}",
            where=folder,
            mend=_SAVE,
        )
    assert isinstance(model, DINOv3ViTModel)
    model.train(False)
    return model


def weight_files(folder: Path) -> list[Path]:
    """List the files that a backbone is loaded from: `config.json`, then the weights.

    Raises
    ------
    InputError
        If some are missing, or the weights are there as pickle only.
    """
    names = [WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            names = [INDEX, *sorted(set(index["weight_map"].values()))]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError("cannot be read", where=folder / INDEX, mend=_SAVE) from error
    files = [folder / name for name in (CONFIG, *names)]
    for file in files:
        if not file.is_file():
            pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt*"))
            aside = f" ({pickled[0].name} is a pickle, and never loaded)" if pickled else ""
            raise InputError(f"has no {file.name}{aside}", where=folder, mend=_SAVE)
    return files


def weights_sha256(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that a backbone is loaded from, by name."""
    hashes = {}
    for file in weight_files(folder):
        hashes[file.name] = hash_file(file)
    return hashes


def _require_dinov3(folder: Path) -> None:
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"has no {CONFIG}", where=folder, mend=_SAVE)
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("is no model configuration", where=path, mend=_SAVE) from error
    if kind != _MODEL_TYPE:
        raise InputError(f"is a model of type {kind}, not {_MODEL_TYPE}", where=folder, mend=_SAVE)


def _download(source: str, revision: str | None) -> Path:
    patterns = [CONFIG, "model*.safetensors", INDEX, "LICENSE*"]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise InputError("is gated on the Hub", where=source, mend=_ACCESS) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            "is neither a local folder nor a model on the Hub that you may see",
            where=source,
            mend=_ACCESS,
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError("cannot be had from the Hub", where=source, mend=_ACCESS) from error


def _first(keys: Any) -> str:
    return str(min(keys, key=str))
