"""A graph as a checked file; weights that one protobuf file cannot hold lie in one beside it."""

from pathlib import Path
from typing import TYPE_CHECKING

from cytodino.engines.compiled_cache import weights_beside
from cytodino.errors import ExportError

if TYPE_CHECKING:
    import onnx

__all__ = ["LARGEST_FILE", "save_graph", "write_graph_file"]

LARGEST_FILE = 2**31 - 2**20
"""Bytes of one protobuf file, less a margin for the metadata."""

SMALLEST_OUTSIDE = 1024
"""Bytes: smaller constants, shapes among them, are read while the graph is, and stay in it."""


def save_graph(model: "onnx.ModelProto", path: Path, name: str) -> Path:
    """Check a graph and write it, over 2 GB with its weights in ``PATH.data`` beside it.

    Parameters
    ----------
    model : onnx.ModelProto
        Left with its weights.
    path : Path
        The file to write; one that exists is replaced, and so are weights beside it.
    name : str
        What the graph is, for the message: FP32, FP16, INT8.

    Raises
    ------
    ExportError
        If the ONNX checker refuses it.
    """
    import onnx

    try:
        if model.ByteSize() <= LARGEST_FILE:
            onnx.checker.check_model(model, full_check=True)
            write_graph_file(model, path)
        else:  # too large for the checker while it is in memory
            write_graph_file(model, path)
            onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX checker refuses the {name} graph: {error}") from error
    return path


def write_graph_file(model: "onnx.ModelProto", path: Path) -> None:
    """Write a graph without checking it; parameters as for `save_graph`."""
    import onnx

    beside = weights_beside(path)
    beside.unlink(missing_ok=True)  # what is there is added to
    if model.ByteSize() <= LARGEST_FILE:
        onnx.save(model, str(path))
        return
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        location=beside.name,
        size_threshold=SMALLEST_OUTSIDE,
    )
    # Saving takes the weights out of the graph in memory: put them back.
    onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
