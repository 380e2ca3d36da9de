"""Cut a graph at a tensor, and run it or a part of it on the CPU."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.onnxruntime_library import import_onnxruntime
from cytodino_export.graph_file import LARGEST_FILE, write_graph_file

if TYPE_CHECKING:
    import onnx

__all__ = ["cut_at", "drop_unread_constants", "float_logits", "open_graph", "type_of"]


def cut_at(
    model: "onnx.ModelProto", before: Iterable[str], border: str
) -> "tuple[onnx.ModelProto, onnx.ModelProto]":
    """Divide a graph in two: the nodes that make a tensor, and the rest, which reads it.

    Parameters
    ----------
    model : onnx.ModelProto
    before : names of nodes
        All that the tensor depends on.
    border : str
        The tensor: output of the first part, one more input of the second.
    """
    import onnx

    names = set(before)
    value = onnx.helper.make_tensor_value_info(border, type_of(model, border), None)
    first, second = onnx.ModelProto(), onnx.ModelProto()
    for part, wanted in ((first, True), (second, False)):
        part.CopyFrom(model)
        del part.graph.node[:]
        part.graph.node.extend(n for n in model.graph.node if (n.name in names) == wanted)
        drop_unread_constants(part)
    del first.graph.output[:]
    first.graph.output.append(value)
    second.graph.input.append(value)
    return first, second


def type_of(model: "onnx.ModelProto", tensor: str) -> int:
    """Element type of a float tensor: FLOAT16 where a cast made it, else FLOAT."""
    import onnx

    for node in model.graph.node:
        if node.op_type == "Cast" and tensor in node.output:
            return int(node.attribute[0].i)
    return int(onnx.TensorProto.FLOAT)


def drop_unread_constants(model: "onnx.ModelProto") -> None:
    """Remove the initialisers that no node reads."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def open_graph(model: "onnx.ModelProto") -> Any:
    """Open a graph in ONNX Runtime on the CPU; any size, in memory or beside."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    if model.ByteSize() <= LARGEST_FILE:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        write_graph_file(model, path)
        return onnxruntime.InferenceSession(str(path), options, providers=providers)


def float_logits(
    model: "onnx.ModelProto", crops: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """Logits float32 (n, 21) of a graph on the CPU, crop by crop."""
    session = open_graph(model)
    return np.concatenate([session.run(None, {"crops": crop[None]})[0] for crop in crops])
