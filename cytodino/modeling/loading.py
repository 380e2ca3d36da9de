"""From a run folder to a model and back."""

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import DINOv3ViTModel

from cytodino.errors import InputError, MergeError, MissingPathError
from cytodino.modeling.backbone import (
    Backbone,
    load_backbone,
    load_folder,
    random_backbone,
    weights_sha256,
)
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.libraries import quiet_libraries
from cytodino.modeling.lora import CONFIG, load_adapter, merge_adapter, save_adapter
from cytodino.modeling.preprocessing import Preprocess
from cytodino.recipe import SHAPES
from cytodino.run import Run, open_run
from cytodino.run_files import ADAPTER, BACKBONE, HEAD
from cytodino.run_manifest import MANIFEST, BackboneRecord, HeadRecord, LoraRecord


def load_run(run: Run | Path, *, merged: bool = True) -> CytoDino:
    """Load the model of a run, float32, in evaluation mode.

    Parameters
    ----------
    run : Run or Path
    merged : bool
        True adds a LoRA adapter to the weights; False keeps it beside them, as it was trained.

    Raises
    ------
    MissingPathError
        If a backbone that the run only refers to is gone.
    InputError
        If it has changed since, or the head cannot be read.
    MergeError
        If the adapter does not fit the backbone, or is not the one that `run.json` tells of.
    """
    quiet_libraries()
    if isinstance(run, Path):
        run = open_run(run)
    manifest = run.manifest
    plain = _load_recorded(run)
    backbone: nn.Module = plain
    if manifest.lora is not None:
        adapted = load_adapter(plain, run.adapter_path)
        _require_recorded(adapted, manifest.lora, run.adapter_path)
        backbone = merge_adapter(adapted) if merged else adapted
    preprocess = Preprocess(manifest.image_size, mean=manifest.mean, std=manifest.std)
    return CytoDino(backbone, _load_head(run), preprocess).float().eval()


def open_backbone(source: str, *, image_size: int = 256) -> Backbone:
    """Load whatever `--backbone` names: a configuration, a run, a folder, or a Hub id.

    A run that has an adapter gives its merged backbone.

    Raises
    ------
    InputError
        See `load_backbone` and `load_run`; also if a configuration's name is a folder's too.
    """
    if source in SHAPES:
        if Path(source).exists():  # taking the random weights silently would cost a night
            raise InputError(
                f"{source} names a configuration with random weights, and a folder here",
                mend=f"give ./{source} for the folder, or rename it",
            )
        return random_backbone(source, image_size=image_size)
    if (Path(source) / MANIFEST).is_file():
        model = load_run(Path(source), merged=True).backbone
        assert isinstance(model, DINOv3ViTModel)
        return Backbone(model, source, "run")
    return load_backbone(source)


def save_weights(model: CytoDino, folder: Path, backbone: Backbone) -> BackboneRecord:
    """Write head, adapter and, where nothing else holds it, the backbone into a run folder.

    Parameters
    ----------
    model : CytoDino
        As it was trained, its adapter not merged. The adapter is taken off while the plain
        backbone is written, so the model is of no use afterwards.
    folder : Path
        The run.
    backbone : Backbone
        What `model` began from. It is stored in the run unless it is a folder or Hub model whose
        own weights were left alone.

    Returns
    -------
    BackboneRecord
        For `run.json`.
    """
    save_file(_plain(model.head.state_dict()), folder / HEAD)
    core = model.backbone
    untouched = not any(p.requires_grad for n, p in core.named_parameters() if ".lora_" not in n)
    stored = backbone.folder is None or not untouched
    if isinstance(core, PeftModel):
        name = f"../{BACKBONE}" if stored else str(backbone.source)
        save_adapter(core, folder / ADAPTER, backbone=name)
        tuner: Any = core.base_model
        core = tuner.unload()
    hashes = backbone.sha256
    lies_here = backbone.kind in ("folder", "run")
    if stored:
        assert isinstance(core, DINOv3ViTModel)
        core.save_pretrained(folder / BACKBONE, safe_serialization=True)
        _copy_licence(backbone, folder / BACKBONE)
        hashes = weights_sha256(folder / BACKBONE)
    return BackboneRecord(
        source=backbone.source,
        kind=backbone.kind,
        stored=stored,
        revision=backbone.revision,
        path=str(backbone.folder or Path(backbone.source).resolve()) if lies_here else None,
        sha256=hashes,
    )


def describe_head(head: DecoderHead) -> HeadRecord:
    """Record a head's shape, so that it can be built again before its weights are read."""
    return HeadRecord(
        hidden=head.hidden,
        layers=head.layers,
        heads=head.heads,
        feedforward=head.feedforward,
        dropout=head.dropout,
    )


def _load_recorded(run: Run) -> DINOv3ViTModel:
    record = run.manifest.backbone
    if record.stored:
        _require_same(weights_sha256(run.backbone_path), record, run.backbone_path)
        return load_folder(run.backbone_path)
    if record.kind == "folder":
        folder = Path(record.path or record.source)
        if not folder.exists():
            raise MissingPathError(folder, mend="put the backbone of this run back")
        _require_same(weights_sha256(folder), record, folder)
        return load_folder(folder)
    backbone = load_backbone(record.source, revision=record.revision)
    _require_same(backbone.sha256, record, record.source)
    return backbone.model


def _require_same(found: dict[str, str], record: BackboneRecord, where: Path | str) -> None:
    changed = sorted(
        name for name in found.keys() | record.sha256 if found.get(name) != record.sha256.get(name)
    )
    if changed:
        raise InputError(
            f"the backbone has changed since the run was trained: {', '.join(changed)}",
            where=where,
            mend="put the backbone of this run back, or train again",
        )


def _require_recorded(adapted: PeftModel, record: LoraRecord, where: Path) -> None:
    """Refuse an adapter whose own configuration adds it otherwise than it was trained.

    No weight tells by how much an adapter counts: a configuration that lost its alpha fits too.
    """
    layers = [module for module in adapted.modules() if isinstance(module, LoraLayer)]
    found = {(layer.r["default"], layer.scaling["default"]) for layer in layers}
    expected = (record.rank, record.alpha / record.rank)
    if found != {expected}:
        said = ", ".join(f"rank {rank} with scale {scale:g}" for rank, scale in sorted(found))
        is_now = f"is of {said}" if found else "adds to no layer"
        raise MergeError(
            f"the adapter {is_now}; run.json says rank {expected[0]} with scale {expected[1]:g}",
            where=where,
            mend=f"restore {CONFIG} as it was trained, or copy the run again",
        )


def _load_head(run: Run) -> DecoderHead:
    record = run.manifest.head
    head = DecoderHead(
        record.hidden,
        layers=record.layers,
        heads=record.heads,
        feedforward=record.feedforward,
        dropout=record.dropout,
    )
    try:
        head.load_state_dict(load_file(run.head_path))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            "the head does not fit what run.json says of it",
            where=run.head_path,
            mend="copy the run again, whole",
        ) from error
    return head


def _copy_licence(backbone: Backbone, folder: Path) -> None:
    """Let DINOv3's licence travel with the weights made from it."""
    if backbone.folder is not None:
        for licence in sorted(backbone.folder.glob("LICENSE*")):
            shutil.copyfile(licence, folder / licence.name)


def _plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
