"""What can be measured on this machine: engines, variants and devices of a bundle."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cytodino.bundle import Bundle
from cytodino.bundle.reference import require_its_run
from cytodino.bundle.verdicts import usable_here
from cytodino.engines import Engine, open_engine
from cytodino.engines.onnxruntime import require_device
from cytodino.engines.selection import targets_found, why_unproven
from cytodino.engines.tuned import Configuration, open_configuration
from cytodino.engines.variants import ENGINES
from cytodino.errors import EngineError, MissingExtraError
from cytodino.machine import cache_folder

__all__ = ["find_subjects", "open_subject"]


def find_subjects(
    bundle: Bundle,
    *,
    engines: Sequence[str] = ("auto",),
    variants: Sequence[str] = ("auto",),
    device: str = "auto",
    reference: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Configuration]:
    """Find every engine, variant and device to be tried; the engines' libraries are imported.

    Parameters
    ----------
    bundle : Bundle
    engines : sequence of {"auto", "onnxruntime", "openvino", "pytorch"}
        auto takes all that can be had, pytorch where its run is given.
    variants : sequence of str
        auto takes all that passed.
    device : {"auto", "cpu", "cuda"}
    reference : Path, optional
        The bundle's run, for the engine pytorch.
    say : callable
        Told what is left out.

    Raises
    ------
    MissingExtraError, EngineError
        If an engine that was named cannot be had, or nothing is left.
    InputError
        If the reference is not the bundle's run.
    """
    found: list[Configuration] = []
    for engine in dict.fromkeys((*ENGINES, "pytorch") if "auto" in engines else engines):
        try:
            if engine == "pytorch":
                _import_pytorch(bundle, reference)
                if "auto" in variants or "fp32" in variants:
                    found.append(Configuration(engine=engine, variant="fp32", device=device))
            else:
                found += _passed(bundle, engine, variants, device)
        except EngineError as error:
            if engine in engines:
                raise
            say(f"without {engine}: {error}")
    if not found:
        require_device(device)  # without a GPU nothing has passed on one
        raise EngineError(
            "nothing can be measured: no variant asked for has passed on an engine here",
            where=bundle.path,
            mend="run cytodino-export verify on this machine, or export the run again",
        )
    return found


def open_subject(
    bundle: Bundle,
    configuration: Configuration,
    *,
    reference: Path | None = None,
    cache: Path | None = None,
) -> Engine:
    """Open a configuration, PyTorch included; compiled models are kept in this machine's cache.

    Raises
    ------
    BundleError, MissingExtraError, EngineError
        If variant, engine, device or reference cannot be had.
    """
    if configuration.engine == "pytorch":
        return open_engine(
            bundle, engine="pytorch", device=configuration.device, reference=reference
        )
    return open_configuration(bundle, configuration, cache=cache or cache_folder() / "openvino")


def _passed(
    bundle: Bundle, engine: str, variants: Sequence[str], device: str
) -> list[Configuration]:
    return [
        Configuration(engine=engine, variant=variant, device=target.device)
        for target in targets_found(engine)
        if device in ("auto", target.device)
        for variant in usable_here(bundle, target.engine, target.provider)
        if ("auto" in variants or variant in variants) and why_unproven(target, variant) is None
    ]


def _import_pytorch(bundle: Bundle, reference: Path | None) -> None:
    """Load the libraries now, so that their import is not timed."""
    if reference is None:
        raise EngineError("the engine pytorch needs the run itself", mend="give --reference RUN")
    require_its_run(bundle, reference)
    try:
        import cytodino.engines.pytorch
        import cytodino.modeling.loading  # noqa: F401  # for its side effect: it is loaded
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train") from error
