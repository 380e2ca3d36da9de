"""Open a peer as its users do: a function from crops to logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.onnxruntime_library import import_onnxruntime
from cytodino.engines.openvino_library import import_openvino, openvino_core
from cytodino.engines.tuned import Configuration
from cytodino.machine import cores_available
from cytodino.taxonomy import N_CLASSES
from cytodino_bench.peer_kinds import Peer

__all__ = ["Answer", "open_peer"]

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Crops uint8 (n, h, w, 3) to logits float32 (n, 21); n is a multiple of the batch size."""


def open_peer(
    peer: Peer,
    *,
    run: Path,
    model: Path | None,
    batch_size: int,
    bundle: Path | None = None,
    configuration: Configuration | None = None,
) -> Answer:
    """Open one of the peers, or a configuration of a bundle.

    Parameters
    ----------
    peer : Peer
    run : Path
    model : Path, optional
        The file that the peer needs.
    batch_size : int
        Crops in one call.
    bundle : Path, optional
    configuration : Configuration, optional
        For the library `cytodino`.
    """
    if peer.library == "pytorch":
        return _batched(_pytorch(run, peer), batch_size)
    if peer.library == "cytodino":
        assert bundle is not None and configuration is not None
        return _cytodino(bundle, configuration)
    assert model is not None
    if peer.library == "onnxruntime":
        return _batched(_onnxruntime(model), batch_size)
    if peer.library == "optimum":
        return _batched(_optimum(model), batch_size)
    if peer.throughput:
        size = 1 if peer.one_a_request else batch_size
        return _openvino_queue(model, size, static=peer.static)
    return _batched(_openvino(model), batch_size)


def _batched(answer: Answer, batch_size: int) -> Answer:
    def answer_all(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = range(0, len(crops), batch_size)
        return np.concatenate([answer(crops[start : start + batch_size]) for start in starts])

    return answer_all


def _pytorch(run: Path, peer: Peer) -> Answer:
    import torch

    from cytodino.modeling.loading import load_run

    torch.set_num_threads(cores_available())
    model = load_run(run, merged=not peer.adapted)
    # The weights themselves, not autocast: in inference that multiplies what is not contiguous by
    # a copy of the weights for each token, which took half the time (torch 2.14).
    dtype = torch.bfloat16 if peer.precision == "bf16" else torch.float32
    model.backbone.to(dtype)
    model.head.to(dtype)

    def classify(crops: torch.Tensor) -> torch.Tensor:
        return model.classify(model.preprocess(crops).to(dtype)).float()

    if peer.compiled:
        classify = torch.compile(classify)

    def answer(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = classify(torch.from_numpy(crops)).numpy()
        return logits

    return answer


def _onnxruntime(model: Path) -> Answer:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores_available()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda crops: session.run(None, {"crops": crops})[0]


def _optimum(model: Path) -> Answer:
    onnxruntime = import_onnxruntime()
    from optimum.onnxruntime import ORTModelForCustomTasks

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores_available()
    opened = ORTModelForCustomTasks.from_pretrained(
        model.parent, file_name=model.name, session_options=options, use_io_binding=False
    )
    return lambda crops: opened(crops=crops)["logits"]


def _openvino(model: Path) -> Answer:
    compiled = openvino_core().compile_model(model, "CPU")
    return lambda crops: compiled(crops)[0].copy()


def _openvino_queue(model: Path, batch_size: int, *, static: bool) -> Answer:
    openvino = import_openvino()
    graph = openvino_core().read_model(model)
    if static:
        graph.reshape({"crops": [batch_size, -1, -1, 3]})
    compiled = openvino_core().compile_model(graph, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    queue = openvino.AsyncInferQueue(compiled)  # as many requests as the device advises
    target: list[NDArray[np.float32]] = []

    def collect(request: Any, start: int) -> None:
        logits = request.get_output_tensor(0).data
        target[0][start : start + len(logits)] = logits

    queue.set_callback(collect)

    def answer(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        target[:] = [np.empty((len(crops), N_CLASSES), dtype=np.float32)]
        for start in range(0, len(crops), batch_size):
            queue.start_async(crops[start : start + batch_size], start)
        queue.wait_all()
        return target[0]

    return answer


def _cytodino(bundle: Path, configuration: Configuration) -> Answer:
    from cytodino.bundle import open_bundle
    from cytodino_bench.subjects import open_subject

    return open_subject(open_bundle(bundle), configuration).logits
