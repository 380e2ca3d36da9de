"""OpenVINO's library: loaded without its telemetry, asked for what it can do and what it says."""

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from cytodino.errors import EngineError, MissingExtraError
from cytodino.taxonomy import N_CLASSES

__all__ = [
    "PROVIDER",
    "failure_types",
    "import_openvino",
    "last_line",
    "openvino_core",
    "read_graph",
    "supports_bf16",
]

PROVIDER = "CPU"
"""OpenVINO's own name of the one device that is used here."""


def import_openvino() -> Any:
    """Import openvino without its telemetry, or say how to get it.

    Raises
    ------
    MissingExtraError
        If openvino is not installed.
    """
    try:
        with _without_telemetry():
            import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino") from error
    return openvino


@functools.cache
def openvino_core() -> Any:
    """Return this process's one openvino.Core, which is never let go.

    On a CPU with AMX the first use of a Core makes the calling thread's signals arrive on a stack
    of that Core's own (openvinotoolkit/openvino#11894). Of two Cores that overlap, the one that
    goes last puts back the stack of the one that went first, which is no longer mapped (2026.4):
    the next signal that Python handles, an interrupt or a child's end, kills the process.

    Raises
    ------
    MissingExtraError
        If openvino is not installed.
    """
    return import_openvino().Core()


def supports_bf16() -> bool:
    """Tell whether OpenVINO multiplies in bf16 on this CPU."""
    return "BF16" in openvino_core().get_property(PROVIDER, "OPTIMIZATION_CAPABILITIES")


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide openvino_telemetry: importing openvino reports each import to a web service.

    OpenVINO has a stand-in for where the package is not installed; a laboratory's machine has
    nothing to report.
    """
    name = "openvino_telemetry"
    modules = cast(dict[str, Any], sys.modules)
    hidden = name not in modules
    if hidden:
        modules[name] = None  # makes its import an ImportError
    try:
        yield
    finally:
        if hidden:
            del modules[name]


def read_graph(ov: Any, model: Path) -> Any:
    """Read an ONNX file as an openvino.Model; one of `failure_types` if it is damaged.

    Raises
    ------
    EngineError
        If it is not crops in, logits out.
    """
    # Core.read_model offers a damaged file to every frontend, and TensorFlow's writes to stderr.
    frontend = ov.frontend.FrontEndManager().load_by_framework("onnx")
    graph = frontend.convert(frontend.load(str(model)))
    found = [_signature(ports) for ports in (graph.inputs, graph.outputs)]
    if found != ["crops u8 [?,?,?,3]", f"logits f32 [?,{N_CLASSES}]"]:
        raise EngineError(
            f"the model takes {found[0] or 'nothing'} and gives {found[1] or 'nothing'}, "
            f"not crops u8 [?,?,?,3] and logits f32 [?,{N_CLASSES}]",
            where=model,
            mend="export the run again",
        )
    return graph


def _signature(ports: list[Any]) -> str:
    return ", ".join(
        f"{port.any_name} {port.element_type.get_type_name()} {port.partial_shape}"
        for port in ports
    )


def failure_types(ov: Any) -> tuple[type[Exception], ...]:
    """Every exception that openvino raises; its frontends' share no base below Exception."""
    found = (getattr(ov.frontend, name) for name in dir(ov.frontend))
    return (
        RuntimeError,
        *(kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)),
    )


def last_line(error: Exception) -> str:
    """Return what went wrong: OpenVINO puts its source files' lines first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
