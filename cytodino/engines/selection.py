"""Choose and open an engine and a variant for a bundle on the machine at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
from cytodino.engines.openvino import OpenVinoEngine
from cytodino.engines.openvino_library import PROVIDER as OPENVINO_CPU
from cytodino.engines.openvino_library import import_openvino, supports_bf16
from cytodino.engines.tensorrt import TENSORRT, library_version, why_refused
from cytodino.engines.variants import ENGINES, PREFERENCE, variants_of
from cytodino.errors import EngineError, MissingExtraError, ParityError
from cytodino.machine import cache_folder

__all__ = [
    "PROVIDERS",
    "Target",
    "open_engine",
    "open_model",
    "providers_found",
    "targets_found",
    "why_unproven",
]

PROVIDERS = {"cpu": CPU, "cuda": CUDA}
"""ONNX Runtime's provider by device."""

VERIFY = "run cytodino-export verify on this machine, or export the run again"


@dataclass(frozen=True)
class Target:
    """Where a variant can run on this machine: verdicts are reached for each."""

    engine: str
    device: str
    """cpu or cuda."""
    provider: str
    """The engine's own name for what computes."""

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants that can run here at all."""
        return variants_of(self.engine, self.device)


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
    engine : {"auto", "onnxruntime", "openvino", "pytorch"}
    variant : str
        auto takes the first of `variants.PREFERENCE` that passed for an engine that is here.
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
    if engine not in ("auto", *ENGINES):
        raise EngineError(
            f"there is no engine {engine}", mend=f"use auto, {', '.join(ENGINES)} or pytorch"
        )
    if variant != "auto":
        bundle.model_path(variant)
    _require_device(engine, device)
    return _open_best(bundle, engine, variant, device, threads)


def open_model(
    model: Path,
    *,
    engine: str = "onnxruntime",
    variant: str = "fp32",
    device: str = "auto",
    provider: str | None = None,
    threads: int | None = None,
    notes: tuple[str, ...] = (),
    cache: Path | None = None,
) -> Engine:
    """Open an ONNX file on an engine, whatever was proven about it: for the gate and `verify`.

    Parameters
    ----------
    model : Path
    engine : {"onnxruntime", "openvino"}
    variant : str
        Which variant the file is to run as; only `openvino` has a choice there.
    device : {"auto", "cpu", "cuda"}
    provider : str, optional
        Which of `onnxruntime`'s providers on that device; by default CUDA's own, or the CPU's.
    threads : int, optional
    notes : tuple of str
        What the caller has to say about the choice; they stand among the warnings.
    cache : Path, optional
        Folder for compiled models, below it one for each engine that compiles; None keeps none.

    Raises
    ------
    MissingPathError, MissingExtraError, EngineError
        If file, engine or device cannot be had.
    """
    if engine == "onnxruntime":
        return OnnxRuntimeEngine(
            model,
            variant=variant,
            device=device,
            provider=provider,
            threads=threads,
            notes=notes,
            cache=cache and cache / "tensorrt",
        )
    if engine == "openvino":
        return OpenVinoEngine(
            model,
            variant=variant,
            device=device,
            threads=threads,
            notes=notes,
            cache=cache and cache / "openvino",
        )
    raise EngineError(f"{engine} does not read ONNX files here", mend=f"use {' or '.join(ENGINES)}")


def providers_found() -> Sequence[str]:
    """Devices of the installed onnxruntime, best first; listed is not yet loadable.

    Raises
    ------
    MissingExtraError
        If onnxruntime is not installed.
    """
    found = import_onnxruntime().get_available_providers()
    return [device for device in ("cuda", "cpu") if PROVIDERS[device] in found]


def targets_found(engine: str = "auto") -> list[Target]:
    """Where ONNX files can run on this machine, GPUs first; listed is not yet loadable.

    Parameters
    ----------
    engine : {"auto", "onnxruntime", "openvino"}
        auto finds what is installed; one that is named has to be.

    Raises
    ------
    MissingExtraError
        If the engine named, or every engine, is not installed.
    """
    found: list[Target] = []
    missing: list[MissingExtraError] = []
    for name in ENGINES if engine == "auto" else (engine,):
        try:
            found += _TARGETS[name]()
        except MissingExtraError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return sorted(found, key=lambda target: target.device != "cuda")


def why_unproven(target: Target, variant: str) -> str | None:
    """Say why a variant cannot be tried on a target of this machine; None where it can."""
    if variant not in target.variants:
        return f"{target.engine} does not run {variant} on {target.device}"
    if target.provider == TENSORRT:
        return why_refused(library_version())
    if target.engine == "openvino" and variant.endswith("bf16"):
        return None if supports_bf16() else "this CPU has no bf16"
    return None


def _onnxruntime_targets() -> list[Target]:
    """CPU and CUDA; TensorRT before CUDA: whoever installed it wants it, once it has passed."""
    found = [Target("onnxruntime", device, PROVIDERS[device]) for device in providers_found()]
    listed = TENSORRT in import_onnxruntime().get_available_providers()
    if listed and library_version() is not None:
        found.insert(0, Target("onnxruntime", "cuda", TENSORRT))
    return found


def _openvino_targets() -> list[Target]:
    import_openvino()
    return [Target("openvino", "cpu", OPENVINO_CPU)]


_TARGETS = {"onnxruntime": _onnxruntime_targets, "openvino": _openvino_targets}


class _Choice(NamedTuple):
    target: Target
    variant: str


def _open_best(bundle: Bundle, engine: str, asked: str, device: str, threads: int | None) -> Engine:
    """Open the first of what passed that loads; cuda that was asked for never becomes the CPU."""
    choices, notes = _choose(bundle, engine, asked, device)
    failure: EngineError | None = None
    for target, variant in choices:
        try:
            return open_model(
                bundle.model_path(variant),
                engine=target.engine,
                variant=variant,
                device=target.device,
                provider=target.provider,
                threads=threads,
                notes=notes,
                cache=cache_folder(),
            )
        except EngineError as error:
            failure = failure or error
            notes += (f"{variant} on {target.engine}, {target.device} is not used: {error.what}",)
    if failure is not None:
        raise failure
    subject = "no variant has" if asked == "auto" else f"{asked} has not"
    where = "any engine here" if engine == "auto" else engine
    raise ParityError(f"{subject} passed on {where}, {device}", where=bundle.path, mend=VERIFY)


def _choose(
    bundle: Bundle, engine: str, asked: str, device: str
) -> tuple[list[_Choice], tuple[str, ...]]:
    """Return what passed and was asked for, by preference, and notes about the rest."""
    notes: tuple[str, ...] = ()
    choices: list[_Choice] = []
    for target in targets_found(engine):
        if device not in ("auto", target.device):
            continue
        passed = [
            _Choice(target, variant)
            for variant in usable_here(bundle, target.engine, target.provider)
            if asked in ("auto", variant) and variant in target.variants
        ]
        if not passed:
            notes += (f"nothing asked for has passed on {target.engine}, {target.device}",)
        choices += passed
    order = [(where, *pair) for where in ("cuda", "cpu") for pair in PREFERENCE[where]]
    choices.sort(key=lambda one: order.index((one.target.device, one.target.engine, one.variant)))
    return choices, notes


def _require_device(engine: str, device: str) -> None:
    """Refuse a device that no engine here has, before anything is opened."""
    if device not in ("auto", "cpu", "cuda"):
        raise EngineError(f"there is no device {device}", mend="use auto, cpu or cuda")
    if device != "cuda":
        return
    if engine == "openvino":
        raise EngineError(
            "openvino computes on the CPU here, not on cuda",
            mend="give --device cpu, or use the engine onnxruntime",
        )
    require_device(device)


def _open_reference(reference: Path | None, variant: str, device: str) -> Engine:
    if reference is None:
        raise EngineError("the engine pytorch needs the run itself", mend="give --reference RUN")
    if variant not in ("auto", "fp32"):
        raise EngineError(f"PyTorch runs fp32 here, not {variant}", mend="give --variant fp32")
    try:
        from cytodino.engines.pytorch import open_reference

        return open_reference(reference, device=device)  # loads more of the extra
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train") from error
