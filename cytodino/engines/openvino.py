"""OpenVINO: the fast CPU engine, with its precision always set and its memory its own."""

import os
import threading
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.engines.compiled_cache import cache_key, compile_through, hash_model
from cytodino.engines.openvino_library import (
    PROVIDER,
    failure_types,
    import_openvino,
    last_line,
    openvino_core,
    read_graph,
    supports_bf16,
)
from cytodino.errors import EngineError, MissingPathError
from cytodino.machine import cores_available, describe_machine
from cytodino.taxonomy import N_CLASSES

__all__ = ["PROVIDER", "VARIANTS", "OpenVinoEngine"]

VARIANTS = {
    "fp32": ("fp32", "f32"),
    "bf16": ("fp32", "bf16"),
    "fp16": ("fp16", "f32"),
    "int8": ("int8", "f32"),
    "int8-bf16": ("int8", "bf16"),
}
"""Variant: precision of its file in the bundle, and of what that file leaves in float."""

CROPS_PER_REQUEST = {"throughput": 4, "latency": 1}
"""Crops in one request, by goal. Measured, ViT-S/16, 2 cores, two streams: 4 against 1 gave
1.4 times the crops/s in bf16 and 1.2 times in INT8 with bf16; 8 gave up to 4 % more than 4."""


STREAMS = {"throughput": 2, "latency": 1}
"""Streams, by goal; each holds its own copy of the weights."""


class OpenVinoEngine(CheckedEngine):
    """An ONNX model on OpenVINO's CPU device.

    The batch is compiled as a constant, height and width are not: the graph resizes first, so
    everything behind the resize has a fixed shape. That was measured as fast as three constants
    (INT8 with bf16: 1.4 times a dynamic batch), needs no second compilation for a second size of
    crop, and every crop is answered by the same kernels whatever its batch: fixed and dynamic
    batches differ by up to 3 % of the logits' spread in bf16 and INT8. Short requests are padded.

    Streams are models compiled one by one, never OpenVINO's own NUM_STREAMS: those share packed
    weights under their address in memory, which is used again while a model is built. With two,
    the logits of an INT8 model were wrong by 0.3 of their spread in most openings, with one they
    never were (2026.4, a tiny DINOv3). It costs a copy of the weights each.

    Parameters
    ----------
    model : Path
        The ONNX file; its one input is `crops`, its one output `logits`.
    variant : str
        A key of `VARIANTS`: says at which precision the file runs. Left alone, OpenVINO drops
        to bf16 wherever the CPU has it.
    device : {"auto", "cpu"}
    threads : int, optional
        By default this process's share of the cores.
    goal : {"throughput", "latency"}
        Several streams that compute side by side, or one with all threads.
    streams : int, optional
        Parts that compute side by side and share out the threads; by default `STREAMS`, and
        never more than there are threads.
    crops_per_request : int, optional
        The constant batch, `CROPS_PER_REQUEST` by default.
    cache : Path, optional
        Folder for compiled models, usually `cache_folder() / "openvino"`. Each entry is a copy of
        the weights, and spares about two thirds of the compiling (ViT-S/16, INT8: 1.4 s to 0.5).
    notes : tuple of str
        What happened before the opening, kept among the warnings.

    Raises
    ------
    MissingExtraError
        If openvino is not installed.
    MissingPathError
        If there is no such file.
    EngineError
        If variant, device or goal are not known, the CPU has no bf16 where the variant needs it,
        or the model cannot be opened.
    """

    name = "openvino"

    def __init__(
        self,
        model: Path,
        *,
        variant: str = "fp32",
        device: str = "auto",
        threads: int | None = None,
        goal: str = "throughput",
        streams: int | None = None,
        crops_per_request: int | None = None,
        cache: Path | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        ov = import_openvino()
        if not model.is_file():
            raise MissingPathError(model)
        _require_known(variant, device, goal)
        self.variant, self.device, self._goal = variant, "cpu", goal
        self._version: str = ov.__version__.split("-")[0]
        self._chunk = crops_per_request or CROPS_PER_REQUEST[goal]
        self._failures = failure_types(ov)
        self._lock = threading.RLock()
        precision = VARIANTS[variant][1]
        if precision == "bf16" and not supports_bf16():
            raise EngineError(
                f"this CPU has no bf16, which the variant {variant} needs",
                mend="use the variant int8 or fp32",
            )
        self._threads = threads or cores_available()
        shares = _share_out(self._threads, streams or STREAMS[goal])
        options = [_compile_options(precision, share, self._threads) for share in shares]
        try:
            self._compiled = self._compile(ov, model, options, cache)
            self._slots = [_Slot(ov, compiled, self._chunk) for compiled in self._compiled]
        except self._failures as error:
            raise EngineError(
                f"openvino {self._version} cannot open the model: {last_line(error)}",
                where=model,
                mend="export the run again, or use another version of openvino",
            ) from error
        self._warnings = notes + self._check_options(precision, streams)
        self.from_cache = all(one.get_property("LOADED_FROM_CACHE") for one in self._compiled)
        """Whether it was compiled before: no option, as it changes from one opening to the next."""

    def describe(self) -> EngineDescription:
        """Say what computes: engine, variant, device, provider, version, options, warnings."""
        return EngineDescription(
            engine=self.name,
            variant=self.variant,
            device=self.device,
            provider=self._provider,
            version=self._version,
            options=dict(self._options),
            warnings=self._warnings,
        )

    def _infer(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = np.empty((len(crops), N_CLASSES), dtype=np.float32)
        # Two callers in one set of buffers would read each other's cells.
        with self._lock:
            if self._closed:
                raise EngineError("this openvino engine is closed", mend="open it again")
            slots = cycle(self._slots)
            try:
                for start in range(0, len(crops), self._chunk):
                    part = slice(start, start + self._chunk)
                    slot = next(slots)
                    slot.collect()
                    slot.start(crops[part], logits[part])
                for slot in self._slots:
                    slot.collect()
            except self._failures as error:
                # What failed stays in the compiled model: a new request on good crops failed too.
                self.close()
                raise EngineError(
                    f"openvino {self._version} failed on crops {crops.shape}: {last_line(error)}",
                    mend="open the engine again for other crops, or use another engine",
                ) from error
        return logits

    def _release(self) -> None:
        with self._lock:
            del self._slots, self._compiled

    def _compile(
        self,
        ov: Any,
        model: Path,
        streams: list[dict[str, str | int | bool]],
        cache: Path | None,
    ) -> list[Any]:
        """Compile the model once for each stream's options."""
        graph = read_graph(ov, model)
        graph.reshape({"crops": [self._chunk, -1, -1, 3]})

        def compile_in(options: dict[str, str | int | bool], folder: Path | None) -> Any:
            kept = {} if folder is None else {"CACHE_DIR": str(folder)}
            return openvino_core().compile_model(graph, PROVIDER, options | kept)

        if cache is None:
            return [compile_in(options, None) for options in streams]
        machine = describe_machine()
        conditions = (ov.__version__, machine.system, machine.cpu, *machine.flags)
        content = hash_model(model)
        return [
            compile_through(
                cache / cache_key(content, *conditions, str(self._chunk), repr(options)),
                partial(compile_in, options),
            )
            for options in streams
        ]

    def _check_options(self, precision: str, streams: int | None) -> tuple[str, ...]:
        """Read back what was compiled; refuse another precision, return warnings for the rest."""
        found: str = self._compiled[0].get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if found != precision:
            raise EngineError(
                f"openvino compiled {self.variant} at {found}, not {precision}",
                mend="use another variant, or another version of openvino",
            )
        self._provider = ",".join(self._compiled[0].get_property("EXECUTION_DEVICES"))
        self._options: dict[str, str | int | bool] = {
            "precision": found,
            "execution_mode": self._compiled[0].get_property("EXECUTION_MODE_HINT").name.lower(),
            "goal": self._goal,
            "streams": len(self._compiled),
            "threads": self._threads,
            "crops_per_request": self._chunk,
            "pinning": self._compiled[0].get_property("ENABLE_CPU_PINNING"),
            "tf32": False,  # a format of GPUs; said because every engine says it
        }
        if streams is None or streams == len(self._compiled):
            return ()
        return (f"{streams} streams were asked for, there are threads for {self._threads}",)


class _Slot:
    """One infer request with pixels of its own.

    OpenVINO keeps a pointer to an array that it was given to share, and writes a later call's
    pixels through it (2026.4): here it never sees the caller's array.
    """

    def __init__(self, ov: Any, compiled: Any, chunk: int) -> None:
        self._request = compiled.create_infer_request()
        self._allocate = partial(ov.Tensor, ov.Type.u8)
        self._pixels: NDArray[np.uint8] = np.empty((chunk, 0, 0, 3), dtype=np.uint8)
        self._target: NDArray[np.float32] | None = None

    def start(self, crops: NDArray[np.uint8], target: NDArray[np.float32]) -> None:
        """Copy crops (k, h, w, 3), k <= chunk, and start; the logits (k, 21) go to the target."""
        if self._pixels.shape[1:] != crops.shape[1:]:
            tensor = self._allocate([len(self._pixels), *crops.shape[1:]])
            self._request.set_input_tensor(0, tensor)
            self._pixels = tensor.data  # a view that keeps the tensor alive
        self._pixels[: len(crops)] = crops
        self._pixels[len(crops) :] = 0
        self._target = target
        self._request.start_async()

    def collect(self) -> None:
        """Wait for what was started, if anything was, and copy its logits out."""
        if self._target is not None:
            self._request.wait()
            self._target[:] = self._request.get_output_tensor(0).data[: len(self._target)]
            self._target = None


def _require_known(variant: str, device: str, goal: str) -> None:
    if variant not in VARIANTS:
        raise EngineError(f"openvino has no variant {variant}", mend=f"use {_names(VARIANTS)}")
    if device not in ("auto", "cpu"):
        raise EngineError(
            f"openvino computes on the CPU here, not on {device}",
            mend="give --device cpu, or use the engine onnxruntime",
        )
    if goal not in CROPS_PER_REQUEST:
        raise EngineError(f"there is no goal {goal}", mend=f"use {_names(CROPS_PER_REQUEST)}")


def _names(table: dict[str, Any]) -> str:
    *others, last = table
    return f"{', '.join(others)} or {last}"


def _share_out(threads: int, streams: int) -> list[int]:
    """Threads of each stream; never a stream without one."""
    streams = max(1, min(streams, threads))
    return [threads // streams + (index < threads % streams) for index in range(streams)]


def _compile_options(precision: str, threads: int, all_threads: int) -> dict[str, str | int | bool]:
    # OpenVINO 2026.4.1 dies compiling float32 graphs of a width up to 128 with its own fusions; at
    # float32 they gain nothing that was measured (2.33 against 2.39 images/s), at bf16 a quarter.
    float_only: dict[str, str | int | bool] = {}
    if precision == "f32":
        float_only["SNIPPETS_MODE"] = "DISABLE"
    return float_only | {
        "INFERENCE_PRECISION_HINT": precision,
        "EXECUTION_MODE_HINT": "ACCURACY",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Pinned to a part of the cores, two streams or processes would take the same part.
        "ENABLE_CPU_PINNING": threads == all_threads >= (os.cpu_count() or 1),
    }
