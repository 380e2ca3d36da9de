"""ONNX Runtime's library: imported with a hint where it is missing, its two wheels told apart.

Whatever of this project uses onnxruntime has it from here, so that it reports to nobody.
"""

from importlib import metadata
from typing import Any

from cytodino.errors import MissingExtraError
from cytodino.telemetry import refuse_telemetry

__all__ = ["conflicting_wheels", "import_onnxruntime", "wheel_warnings"]


def import_onnxruntime() -> Any:
    """Import onnxruntime without its telemetry, or say how to get it.

    Raises
    ------
    MissingExtraError
        If neither wheel is installed.
    """
    refuse_telemetry()
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "cpu") from error
    ort.disable_telemetry_events()  # for whoever had imported it before
    return ort


def conflicting_wheels() -> bool:
    """Tell whether both onnxruntime wheels are installed: one has overwritten the other."""
    return all(_is_installed(name) for name in ("onnxruntime", "onnxruntime-gpu"))


def wheel_warnings() -> tuple[str, ...]:
    """Say what to do where `conflicting_wheels`; else nothing."""
    if not conflicting_wheels():
        return ()
    return (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
        "run: pip uninstall onnxruntime onnxruntime-gpu, then install the one you need",
    )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
