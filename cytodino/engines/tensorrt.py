"""TensorRT as a provider of ONNX Runtime: which versions, which options, where engines are kept.

Nothing here imports onnxruntime or TensorRT: the library is only asked for its version.
"""

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Any

from cytodino.engines.compiled_cache import cache_key, hash_model
from cytodino.errors import EngineError
from cytodino.machine import Machine, describe_machine

__all__ = [
    "TENSORRT",
    "TF32_OFF",
    "engine_folder",
    "library_version",
    "tensorrt_options",
    "tensorrt_provider",
    "why_refused",
]

TENSORRT = "TensorrtExecutionProvider"

REFUSED = {
    (10, 3): "TensorRT#4723",
    (10, 4): "TensorRT#4742",
}
"""Versions that miscompile DINOv3, and where that was reported: float32 answers of cosine 0.018 to
PyTorch's, NaN in FP16, whatever the graph."""

TF32_OFF = ("NVIDIA_TF32_OVERRIDE", "0")
"""Environment variable and its value. TensorRT's TF32 is on by default, and onnxruntime has no
option for it; NVIDIA's libraries read this one when they are loaded."""

LIBRARIES = ("libnvinfer.so.10", "nvinfer_10.dll")
"""The library that onnxruntime 1.18 and later link against, on Linux and on Windows."""


def tensorrt_provider(
    ort: Any, model: Path, variant: str, cache: Path | None
) -> tuple[str, dict[str, str]]:
    """TensorRT and its options; CUDA has to stand behind it, for what it does not take.

    Turns TF32 off for this process and those that it starts.

    Parameters
    ----------
    ort : module
        onnxruntime.
    model : Path
        The ONNX file.
    variant : {"fp32", "fp16"}
    cache : Path, optional
        Folder for built engines; None keeps none, and so does one that cannot be written.

    Raises
    ------
    EngineError
        If onnxruntime has no TensorRT, its library does not load, or it miscompiles DINOv3.
    """
    if TENSORRT not in ort.get_available_providers():
        raise EngineError(
            f"this onnxruntime {ort.__version__} has no TensorRT provider",
            mend="run: pip uninstall onnxruntime && pip install 'cytodino[gpu]' tensorrt",
        )
    refused = why_refused(library_version())
    if refused is not None:
        raise EngineError(refused, mend="install another version of TensorRT, or remove it")
    os.environ.update([TF32_OFF])
    folder = None
    if cache is not None:
        machine = describe_machine()
        folder = engine_folder(cache, model, variant, runtime=ort.__version__, machine=machine)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            folder = None
    return TENSORRT, tensorrt_options(variant, folder)


def library_version() -> tuple[int, int, int] | None:
    """Version of the TensorRT library that loads here, or None where none does."""
    for name in _candidates():
        try:
            library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            number = int(library.getInferLibVersion())
        except (OSError, AttributeError):
            continue
        return number // 10_000, number // 100 % 100, number % 100
    return None


def why_refused(version: tuple[int, int, int] | None) -> str | None:
    """Say why a version of TensorRT is not used; None where it may be."""
    if version is None:
        return "the TensorRT library does not load"
    report = REFUSED.get(version[:2])
    if report is None:
        return None
    return f"TensorRT {'.'.join(map(str, version))} miscompiles DINOv3 ({report})"


def tensorrt_options(variant: str, folder: Path | None) -> dict[str, str]:
    """Options of the provider for a variant.

    Parameters
    ----------
    variant : {"fp32", "fp16"}
    folder : Path, optional
        Where built engines are kept, see `engine_folder`; None keeps none.

    Raises
    ------
    EngineError
        If the variant does not run on TensorRT.
    """
    if variant not in ("fp32", "fp16"):
        raise EngineError(f"TensorRT does not run {variant} here", mend="use fp32 or fp16")
    options = {
        # It lowers any float32 layer that is faster so: an FP32 file would no longer be one.
        "trt_fp16_enable": "1" if variant == "fp16" else "0",
        "trt_int8_enable": "0",
        "trt_layer_norm_fp32_fallback": "1",
        # Timings of another load, driver or card choose other kernels, and so other roundings.
        "trt_timing_cache_enable": "0",
        "trt_dump_subgraphs": "0",
        "trt_engine_cache_enable": "0" if folder is None else "1",
    }
    return options if folder is None else options | {"trt_engine_cache_path": str(folder)}


def engine_folder(
    cache: Path, model: Path, variant: str, *, runtime: str, machine: Machine
) -> Path:
    """Name the folder for a model's built engines: an engine fits one card, driver and version.

    Parameters
    ----------
    cache : Path
        Folder of the machine's cache.
    model : Path
        The ONNX file; its content counts, not its name.
    variant : str
    runtime : str
        Version of onnxruntime.
    machine : Machine
        Its GPUs name card and driver.
    """
    version = ".".join(map(str, library_version() or ()))
    built_by = (variant, runtime, version, machine.system, str(machine.gpu_driver))
    return cache / cache_key(hash_model(model), *built_by, *machine.gpus)


def _candidates() -> list[str]:
    """Where the library may lie: on the loader's path, or in NVIDIA's wheel."""
    spec = importlib.util.find_spec("tensorrt_libs")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [*LIBRARIES, *(str(Path(place) / name) for place in places for name in LIBRARIES)]
