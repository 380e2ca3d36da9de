"""ONNX Runtime: CPU, CUDA and TensorRT, at the options that parity needs."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.engines.onnxruntime_library import (
    conflicting_wheels,
    import_onnxruntime,
    wheel_warnings,
)
from cytodino.engines.tensorrt import TENSORRT, tensorrt_provider
from cytodino.errors import EngineError, MissingPathError
from cytodino.machine import cores_available

__all__ = ["OnnxRuntimeEngine", "conflicting_wheels", "import_onnxruntime", "require_device"]

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
DEVICES = {TENSORRT: "cuda", CUDA: "cuda", CPU: "cpu"}
COMPUTING = frozenset(
    [
        "Attention",
        "BiasGelu",
        "Conv",
        "Erf",
        "FastGelu",
        "FusedMatMul",
        "Gelu",
        "Gemm",
        "LayerNormalization",
        "MatMul",
        "MultiHeadAttention",
        "Resize",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "Softmax",
    ]
)
"""Operators that compute on pixels. On a GPU none may be left to the CPU; arithmetic on shapes is,
on purpose (onnxruntime#17930), which is why `session.disable_cpu_ep_fallback` refuses every graph
that takes crops of any size."""
ERRORS_ONLY = 3
"""Severity of onnxruntime's own log: warnings about nodes on the CPU are not for users."""


GOALS = ("throughput", "latency")
UNFUSED = ["SkipLayerNormFusion"]
"""The operator that it makes of a sum and a LayerNormalization takes four times as long on the CPU
(measured, 1.32: 518 against 115 microseconds)."""


class OnnxRuntimeEngine(CheckedEngine):
    """An ONNX model on ONNX Runtime.

    On the CPU, for throughput, every crop is a request of its own with one thread, and as many
    compute side by side as there are threads: the activations of one crop fit into a core's cache,
    and no operator waits for another thread. A batch of 8 on all threads took 1.2 times as long in
    FP32 and 1.3 times in INT8. A crop's answer is then the same to the bit in whatever batch.

    Parameters
    ----------
    model : Path
        The ONNX file; its one input is `crops`, its one output `logits`.
    variant : str
        Which variant of the bundle the file is.
    device : {"auto", "cpu", "cuda"}
        auto takes CUDA where it loads. cuda that lands on the CPU is an error, never a fallback.
    provider : str, optional
        `tensorrt.TENSORRT` takes that on cuda, in place of CUDA's own kernels.
    threads : int, optional
        By default this process's share of the cores.
    goal : {"throughput", "latency"}
        On the CPU: a crop for each thread, or all threads in each operator.
    notes : tuple of str
        What the caller has to say about the choice; they stand among the warnings.
    cache : Path, optional
        Folder for the engines that TensorRT builds in minutes; None keeps none.

    Raises
    ------
    MissingExtraError
        If onnxruntime is not installed.
    EngineError
        If the model, the device or the provider cannot be had, or a part would run on the CPU.
    """

    name = "onnxruntime"

    def __init__(
        self,
        model: Path,
        *,
        variant: str = "fp32",
        device: str = "auto",
        provider: str | None = None,
        threads: int | None = None,
        goal: str = "throughput",
        notes: tuple[str, ...] = (),
        cache: Path | None = None,
    ) -> None:
        ort = import_onnxruntime()
        if not model.is_file():
            raise MissingPathError(model)
        if goal not in GOALS:
            raise EngineError(f"there is no goal {goal}", mend=f"use {' or '.join(GOALS)}")
        self.variant, self._goal = variant, goal
        self._version: str = ort.__version__
        self._threads = threads or cores_available()
        self._failures = _failure_types(ort)
        self._warnings = notes + wheel_warnings()
        providers = _choose_providers(ort, device)
        if provider == TENSORRT:
            providers.insert(0, tensorrt_provider(ort, model, variant, cache))
        try:
            self._session = ort.InferenceSession(
                str(model),
                self._session_options(ort),
                providers=providers,
                **({"disabled_optimizers": UNFUSED} if providers == [CPU] else {}),
            )
        except self._failures as error:
            raise EngineError(
                f"onnxruntime {self._version} cannot open the model: {_first_line(error)}",
                where=model,
                mend="export the run again, or use another version of onnxruntime",
            ) from error
        self._session.disable_fallback()
        self._provider: str = self._session.get_providers()[0]
        self.device = DEVICES.get(self._provider, self._provider)
        self._refuse_silent_cpu(ort, device)
        self._refuse_another_provider(provider)
        if self.device == "cuda":
            self._refuse_computing_on_the_cpu()
        self._crop_by_crop = self.device == "cpu" and goal == "throughput"
        self._pool = ThreadPoolExecutor(self._threads) if self._crop_by_crop else None

    def describe(self) -> EngineDescription:
        """Say what computes: engine, variant, device, provider, version, options, warnings."""
        return EngineDescription(
            engine=self.name,
            variant=self.variant,
            device=self.device,
            provider=self._provider,
            version=self._version,
            options={
                "graph_optimization": "all",
                "threads": self._threads,
                "goal": self._goal,
                "crop_by_crop": self._crop_by_crop,
                "spinning": False,
                "tf32": False,
            },
            warnings=self._warnings,
        )

    def _infer(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._pool is None:
            return self._run(crops)
        return np.concatenate(list(self._pool.map(self._run, np.split(crops, len(crops)))))

    def _run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            (logits,) = self._session.run(["logits"], {"crops": np.ascontiguousarray(crops)})
        except self._failures as error:
            raise EngineError(
                f"onnxruntime {self._version} failed on crops {crops.shape}: {_first_line(error)}",
                mend="use a smaller batch size, or another engine",
            ) from error
        return np.asarray(logits)

    def _release(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        del self._session

    def _session_options(self, ort: Any) -> Any:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = 1 if self._goal == "throughput" else self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # Spinning threads starve whatever else runs in the process: PyTorch up to 50 times
        # slower (onnxruntime#13808), and the threads that decode the next crops.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return options

    def _refuse_silent_cpu(self, ort: Any, asked: str) -> None:
        if asked == "cuda" and self.device != "cuda":
            raise EngineError(
                f"onnxruntime {self._version} fell back to the CPU: {_cuda_failure(ort)}",
                mend="mend the CUDA installation, or give --device cpu",
            )
        if asked == "auto" and self.device == "cpu" and CUDA in ort.get_available_providers():
            self._warnings += (f"CUDA did not load, the CPU computes: {_cuda_failure(ort)}",)

    def _refuse_another_provider(self, asked: str | None) -> None:
        if asked == TENSORRT != self._provider:
            raise EngineError(
                f"onnxruntime {self._version} fell back from TensorRT to {self._provider}",
                mend="install the TensorRT that this onnxruntime was built for, or remove it",
            )

    def _refuse_computing_on_the_cpu(self) -> None:
        """Refuse a session with a GPU in front whose work is done behind it."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):  # before 1.24
            self._warnings += ("this onnxruntime does not tell which nodes the CPU computes",)
            return
        left = {
            node.op_type
            for part in self._session.get_provider_graph_assignment_info()
            if part.ep_name == CPU
            for node in part.get_nodes()
        }
        if left & COMPUTING:
            raise EngineError(
                f"onnxruntime {self._version} leaves {', '.join(sorted(left & COMPUTING))} "
                f"to the CPU, behind {self._provider}",
                mend="use another version of onnxruntime-gpu, or give --device cpu",
            )


def require_device(device: str) -> None:
    """Refuse a device that there is none of, or that the installed onnxruntime cannot use.

    Raises
    ------
    EngineError
        If it is not auto, cpu or cuda, or CUDA is not built into this onnxruntime.
    MissingExtraError
        If onnxruntime is not installed.
    """
    ort = import_onnxruntime()
    if device not in ("auto", "cpu", "cuda"):
        raise EngineError(f"there is no device {device}", mend="use auto, cpu or cuda")
    if device == "cuda" and CUDA not in ort.get_available_providers():
        raise EngineError(
            f"this onnxruntime {ort.__version__} has no CUDA provider",
            mend="run: pip uninstall onnxruntime && pip install 'cytodino[gpu]'",
        )


def _choose_providers(ort: Any, device: str) -> list[Any]:
    require_device(device)
    if device == "cpu" or CUDA not in ort.get_available_providers():
        return [CPU]
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA and cuDNN from pip wheels are not on the loader's path
    # TF32 is on by default and costs three digits: 0.33 against 4e-4 (onnxruntime#19288).
    return [(CUDA, {"use_tf32": "0"}), CPU]


def _cuda_failure(ort: Any) -> str:
    """Say why the CUDA provider did not load: onnxruntime itself only logs it."""
    folder = Path(ort.__file__).parent / "capi"
    for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
        try:
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return _first_line(error)
    return "its libraries load, so the driver or the device refused"


def _failure_types(ort: Any) -> tuple[type[Exception], ...]:
    """Every exception that onnxruntime raises; they share no base below Exception."""
    state = ort.capi.onnxruntime_pybind11_state
    found = (getattr(state, name) for name in dir(state))
    return (
        RuntimeError,
        *(kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)),
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
