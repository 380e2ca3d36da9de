"""Choose and open an engine and a variant for a bundle on the machine at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cytodino.bundle.folder import Bundle
from cytodino.bundle.verdicts import usable_here
from cytodino.engines.base import Engine
from cytodino.engines.onnxruntime import (
    CPU,
    CUDA,
    OnnxRuntimeEngine,
    import_onnxruntime,
    require_device,
)
from cytodino.errors import EngineError, MissingExtraError, ParityError

__all__ = [
    "PROVIDERS",
    "Target",
    "open_engine",
    "open_model",
    "providers_found",
    "targets_found",
]

PREFERENCE = {
    "cpu": ("int8-bf16", "int8", "bf16", "fp32", "fp16"),
    "cuda": ("fp16", "fp32", "bf16", "int8", "int8-bf16"),
}
"""Variants by device, fastest first: QDQ INT8 is slow on CUDA, FP16 on CPUs."""

PROVIDERS = {"cpu": CPU, "cuda": CUDA}
"""ONNX Runtime's provider by device."""


@dataclass(frozen=True)
class Target:
    """Where a variant can run on this machine: verdicts are reached for each."""

    engine: str
    device: str
    """cpu or cuda."""
    provider: str
    """The engine's own name for what computes."""


def open_engine(
    bundle: Bundle,
    *,
    engine: str = "auto",
    variant: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    reference: Path | None = None,
) -> Engine:
    """Open a bundle's model on an engine; only variants that passed the gate are used.

    Parameters
    ----------
    bundle : Bundle
    engine : {"auto", "onnxruntime", "pytorch"}
    variant : str
        auto takes the fastest that passed on the engine and device.
    device : {"auto", "cpu", "cuda"}
    threads : int, optional
        By default this process's share of the cores.
    reference : Path, optional
        The run, which `pytorch` needs.

    Raises
    ------
    MissingExtraError
        If the engine is not installed.
    EngineError
        If engine, device or variant cannot be had.
    ParityError
        If the variant asked for, or every variant, has not passed.
    """
    if engine == "pytorch":
        return _open_reference(reference, variant, device)
    if engine not in ("auto", "onnxruntime"):
        raise EngineError(f"there is no engine {engine}", mend="use auto, onnxruntime or pytorch")
    if variant != "auto":
        bundle.model_path(variant)
    if device != "auto":
        require_device(device)
    return _open_best(bundle, variant, device, threads)


def open_model(
    model: Path,
    *,
    engine: str = "onnxruntime",
    variant: str = "fp32",
    device: str = "auto",
    threads: int | None = None,
    notes: tuple[str, ...] = (),
) -> Engine:
    """Open an ONNX file on an engine, whatever was proven about it: for the gate and `verify`.

    Raises
    ------
    MissingPathError, MissingExtraError, EngineError
        If file, engine or device cannot be had.
    """
    if engine != "onnxruntime":
        raise EngineError(f"{engine} does not read ONNX files here", mend="use onnxruntime")
    return OnnxRuntimeEngine(model, variant=variant, device=device, threads=threads, notes=notes)


def providers_found() -> Sequence[str]:
    """Devices of the installed onnxruntime, best first; listed is not yet loadable.

    Raises
    ------
    MissingExtraError
        If onnxruntime is not installed.
    """
    found = import_onnxruntime().get_available_providers()
    return [device for device in ("cuda", "cpu") if PROVIDERS[device] in found]


def targets_found() -> list[Target]:
    """Where ONNX files can run on this machine, best first; listed is not yet loadable.

    Raises
    ------
    MissingExtraError
        If no engine is installed.
    """
    return [Target("onnxruntime", device, PROVIDERS[device]) for device in providers_found()]


def _open_best(bundle: Bundle, asked: str, device: str, threads: int | None) -> Engine:
    """Open what passed on the best target that has such a variant and loads."""
    notes: tuple[str, ...] = ()
    for target in targets_found():
        if device not in ("auto", target.device):
            continue
        usable = usable_here(bundle, target.engine, target.provider)
        if asked != "auto":
            usable = tuple(name for name in usable if name == asked)
        if not usable:
            notes += (f"nothing asked for has passed on {target.engine}, {target.device}",)
            continue
        chosen = min(usable, key=PREFERENCE[target.device].index)
        model = bundle.model_path(chosen)
        try:
            return open_model(
                model,
                engine=target.engine,
                variant=chosen,
                device=target.device,
                threads=threads,
                notes=notes,
            )
        except EngineError as error:
            if device != "auto" or target.device == "cpu":
                raise
            notes += (f"{target.device} is not used: {error.what}",)
    subject = "no variant has" if asked == "auto" else f"{asked} has not"
    raise ParityError(
        f"{subject} passed on onnxruntime, {device}",
        where=bundle.path,
        mend="run cytodino-export verify on this machine, or export the run again",
    )


def _open_reference(reference: Path | None, variant: str, device: str) -> Engine:
    if reference is None:
        raise EngineError("the engine pytorch needs the run itself", mend="give --reference RUN")
    if variant not in ("auto", "fp32"):
        raise EngineError(f"PyTorch runs fp32 here, not {variant}", mend="give --variant fp32")
    try:
        from cytodino.engines.pytorch import open_reference
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train") from error
    return open_reference(reference, device=device)
