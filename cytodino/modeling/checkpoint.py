"""The authors' checkpoint, a state dict of the whole unmerged model, as a run.

Its keys begin `backbone.model.base_model.model.` (PEFT over transformers' DINOv3) and `head.`;
names inside the head are those of AzizbekMuminoff/CytoDINO, `src/model/transformer_decoder.py`.
Every key is accounted for: frozen weights have to be those of the backbone that is named, adapter
and head have to fill theirs, and what is left over is refused.
"""

import pickle
import platform
import re
import struct
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from cytodino import __version__
from cytodino.errors import InputError, MergeError, MissingPathError
from cytodino.modeling.backbone import load_backbone
from cytodino.modeling.classifier import CytoDino, count_parameters
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.loading import describe_head, save_weights
from cytodino.modeling.lora import add_adapter, translate
from cytodino.modeling.preprocessing import MEAN, STD, Preprocess
from cytodino.paths import hash_file
from cytodino.run import Run, open_run
from cytodino.run_folder import new_run_folder, require_free, write_manifest
from cytodino.run_manifest import BackboneRecord, ImportRecord, LoraRecord, RunManifest

SOURCE = "AzizbekMuminoff/CytoDINO"
BACKBONE = "backbone.model."
HEAD = "head."
_HEAD_NAMES = (
    (re.compile(r"^query_token$"), "query"),
    (re.compile(r"^transformer_decoder\."), "decoder."),
    (re.compile(r"^fc\."), "classifier."),
)
_ADAPTER_NAME = re.compile(r"\.(lora_[AB])\.default\.")
_LAYER = re.compile(r"^decoder\.layers\.(\d+)\.")
_MEND = "give the authors' best_model.pt, and the backbone that it was trained on"

_READ_FAULTS = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)
"""What torch's reader of tensors alone was seen to raise on damaged bytes, and their like."""

State = dict[str, torch.Tensor]


def import_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    backbone: str,
    image_size: int = 256,
    lora_alpha: int = 128,
    head_heads: int = 4,
) -> Run:
    """Turn a checkpoint into a run; nothing is written unless every key finds its place.

    Parameters
    ----------
    checkpoint : Path
        Written by `torch.save(model.state_dict())`; read with `weights_only=True`.
    out : Path
        The run: a folder that does not exist yet.
    backbone : str
        Hub id or local folder of the DINOv3 that was adapted.
    image_size : int
        Side in pixels that the model was trained at; no checkpoint says it.
    lora_alpha, head_heads : int
        As the model was trained; no checkpoint says them either. Published ones by default.

    Raises
    ------
    MissingPathError
        If the checkpoint is not there.
    InputError
        If it holds more than tensors, or `out` is taken, or the backbone cannot be had.
    MergeError
        If a key or a shape does not fit, or frozen weights are not the backbone's.
    """
    require_free(out)
    state = read_checkpoint(checkpoint)
    origin = load_backbone(backbone)
    wrapped, head = _divide(state, checkpoint)
    rank = _rank(wrapped, checkpoint)
    adapted = add_adapter(origin.model, rank=rank, alpha=lora_alpha)
    _fill_adapter(adapted, wrapped, checkpoint)
    model = CytoDino(adapted, _build_head(head, head_heads, checkpoint), Preprocess(image_size))
    parameters = count_parameters(model)
    with new_run_folder(out):
        record = save_weights(model.eval(), out, origin)
        write_manifest(
            out,
            _compose_manifest(
                model,
                record,
                checkpoint,
                image_size=image_size,
                rank=rank,
                alpha=lora_alpha,
                parameters=parameters,
            ),
        )
    return open_run(out)


def _compose_manifest(
    model: CytoDino,
    backbone: BackboneRecord,
    checkpoint: Path,
    *,
    image_size: int,
    rank: int,
    alpha: int,
    parameters: tuple[int, int],
) -> RunManifest:
    libraries = ("torch", "transformers", "peft")
    return RunManifest(
        created=datetime.now(UTC).replace(microsecond=0),
        image_size=image_size,
        mean=MEAN,
        std=STD,
        tune="lora",
        backbone=backbone,
        lora=LoraRecord(rank=rank, alpha=alpha, dropout=0.1),
        head=describe_head(model.head),
        recipe=None,
        data=None,
        split=None,
        imported=ImportRecord(file=checkpoint.name, sha256=hash_file(checkpoint), source=SOURCE),
        parameters=parameters,
        best_epoch=None,
        history=(),
        metrics={},
        seconds=0.0,
        device="cpu",
        versions={"python": platform.python_version(), "cytodino": __version__}
        | {library: version(library) for library in libraries},
    )


def read_checkpoint(path: Path) -> State:
    """Read a state dict of tensors; no other pickle is ever loaded.

    Raises
    ------
    MissingPathError
        If it is not there.
    InputError
        If it cannot be read, or holds anything but finite weights by name.
    """
    if not path.is_file():
        raise MissingPathError(path, mend=_MEND)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of odd pickles, which are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            "is no checkpoint of tensors alone, and is not loaded: it could run code",
            where=path,
            mend="save the model's state_dict() by itself",
        ) from error
    except _READ_FAULTS as error:
        raise InputError("cannot be read as a checkpoint", where=path, mend=_MEND) from error
    if not isinstance(content, Mapping) or not content:
        raise InputError("is no state dict", where=path, mend=_MEND)
    strangers = [str(key) for key, value in content.items() if not torch.is_tensor(value)]
    if strangers:
        raise InputError(
            f"holds more than tensors: {', '.join(strangers[:5])}",
            where=path,
            mend="save the model's state_dict() by itself",
        )
    state = {str(key): value for key, value in content.items()}
    _require_weights(state, path)
    return state


def _require_weights(state: State, path: Path) -> None:
    """Refuse tensors that can be no weights; model and head expect nothing but floating point."""
    unfit = [key for key, value in state.items() if not _is_weight(value)]
    if unfit:
        raise InputError(
            f"{len(unfit)} of its tensors are no weights (first: {unfit[0]})",
            where=path,
            mend="save the state_dict() of the model that was trained, in floating point, whole",
        )
    spoilt = [key for key, value in state.items() if not torch.isfinite(value.float()).all()]
    if spoilt:
        raise InputError(
            f"{len(spoilt)} of its tensors are not finite (first: {spoilt[0]})",
            where=path,
            mend="save it again, from a training that did not diverge",
        )


def _is_weight(value: torch.Tensor) -> bool:
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
        return False
    packed = value.dtype == torch.float4_e2m1fn_x2  # two in a byte, which float() cannot part
    return value.is_floating_point() and not packed and value.dim() > 0


def _divide(state: State, path: Path) -> tuple[State, State]:
    """Part the keys into the adapted backbone's and the head's, named as they are here."""
    wrapped: State = {}
    head: State = {}
    strangers = []
    for key, value in state.items():
        if key.startswith(BACKBONE):
            wrapped[key.removeprefix(BACKBONE)] = value.float()
        elif key.startswith(HEAD):
            name = key.removeprefix(HEAD)
            for pattern, ours in _HEAD_NAMES:
                name = pattern.sub(ours, name)
            head[name] = value.float()
        else:
            strangers.append(key)
    if strangers or not wrapped or not head:
        raise _misfit(path, "the model", strangers, [] if wrapped and head else ["backbone, head"])
    return wrapped, head


def _rank(wrapped: State, path: Path) -> int:
    ranks = {len(value) for key, value in wrapped.items() if ".lora_A." in key}
    if len(ranks) != 1:
        found = f"ranks {sorted(ranks)}" if ranks else "no adapter"
        raise MergeError(f"holds {found}, one rank is needed", where=path, mend=_MEND)
    return ranks.pop()


def _fill_adapter(model: PeftModel, wrapped: State, path: Path) -> None:
    """Put the adapter's weights in place; frozen ones must be the backbone's own."""
    state = {translate(key, model.get_base_model()): value for key, value in wrapped.items()}
    expected = model.state_dict()
    _require_keys(state, expected, path, "the backbone")
    adapter = {key: value for key, value in state.items() if ".lora_" in key}
    changed = [
        key
        for key, value in state.items()
        if key not in adapter and not torch.equal(value, expected[key])
    ]
    if changed:
        raise MergeError(
            f"{len(changed)} frozen weights are not those of the backbone (first: {changed[0]})",
            where=path,
            mend="name the backbone that the checkpoint was trained on",
        )
    plain = {_ADAPTER_NAME.sub(r".\1.", key): value for key, value in adapter.items()}
    assert set(plain) == set(get_peft_model_state_dict(model, save_embedding_layers=False))
    set_peft_model_state_dict(model, plain)


def _build_head(state: State, heads: int, path: Path) -> DecoderHead:
    layers = {int(match[1]) for key in state if (match := _LAYER.match(key))}
    query, first = state.get("query"), state.get("decoder.layers.0.linear1.weight")
    if query is None or first is None or query.shape[-1] % heads:
        raise _misfit(path, f"a head of {heads} attention heads", sorted(state)[:3], ["query"])
    head = DecoderHead(query.shape[-1], layers=len(layers), heads=heads, feedforward=len(first))
    _require_keys(state, head.state_dict(), path, "the head")
    head.load_state_dict(state)
    return head


def _require_keys(
    state: State, expected: Mapping[str, torch.Tensor], path: Path, what: str
) -> None:
    unexpected, missing = sorted(set(state) - set(expected)), sorted(set(expected) - set(state))
    if unexpected or missing:
        raise _misfit(path, what, unexpected, missing)
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise MergeError(
                f"{key} is {tuple(value.shape)}, {what} needs {tuple(expected[key].shape)}",
                where=path,
                mend=_MEND,
            )


def _misfit(path: Path, what: str, unexpected: list[str], missing: list[str]) -> MergeError:
    said = "; ".join(
        f"{len(keys)} {word} (first: {', '.join(keys[:3])})"
        for word, keys in (("unexpected", unexpected), ("missing", missing))
        if keys
    )
    return MergeError(f"keys do not fit {what}: {said}", where=path, mend=_MEND)
