"""torch.onnx to one checked FP32 file."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from cytodino.errors import ExportError
from cytodino_export.graph_file import save_graph

__all__ = ["OPSET", "count_nodes", "write_graph"]

OPSET = 20
"""The first with GELU as one operator, which ONNX Runtime computes in one pass: spelled out, as
earlier ones have it, it takes five. Each later one is read by fewer engines."""

EXAMPLE_BATCH = 2
"""The exporter fixes a batch of 1 for good (pytorch#148886)."""


def write_graph(model: nn.Module, path: Path, *, image_size: int, metadata: dict[str, Any]) -> Path:
    """Export a deployed model as ONNX, opset 20, and check the file.

    Parameters
    ----------
    model : nn.Module
        forward(crops: uint8 (n, h, w, 3)) -> logits float32 (n, 21).
    path : Path
        The file to write.
    image_size : int
        Side of the example crops, pixels; the graph takes any size.
    metadata : dict
        Kept in the graph's metadata, what is no text as JSON.

    Raises
    ------
    ExportError
        If the graph cannot be made, branches, or fails the ONNX checker.
    """
    graph = _trace(model, image_size)
    for name, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value)
        graph.metadata_props.add(key=name, value=text)
    _require_straight(graph)
    return save_graph(graph, path, "FP32")


def count_nodes(graph: onnx.ModelProto) -> dict[str, int]:
    """Count a graph's nodes by operator."""
    counts: dict[str, int] = {}
    for node in graph.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def _trace(model: nn.Module, image_size: int) -> onnx.ModelProto:
    # Height and width differ from each other and from the batch, so that no two are tied.
    shape = (EXAMPLE_BATCH, image_size + 3, image_size + 5, 3)
    example = torch.randint(0, 256, shape, dtype=torch.uint8)
    dynamic = {"crops": {axis: torch.export.Dim.DYNAMIC for axis in range(3)}}
    with _silence():
        try:
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["crops"],
                output_names=["logits"],
                dynamic_shapes=dynamic,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).strip().splitlines()[0]
            raise ExportError(
                f"torch.onnx {torch.__version__} cannot export the model: {reason}",
                mend="use a version of torch and onnxscript that the documentation names",
            ) from error
    assert program is not None
    graph = program.model_proto
    _name_axes(graph.graph.input[0], ("n", "h", "w"))
    _name_axes(graph.graph.output[0], ("n",))
    _drop_traces(graph)
    return graph


def _name_axes(value: onnx.ValueInfoProto, names: tuple[str, ...]) -> None:
    """Give the dynamic axes names that people read."""
    for axis, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
        axis.dim_param = name


def _drop_traces(graph: onnx.ModelProto) -> None:
    """Keep of the exporter's notes what names a node's module; the rest is paths and chatter."""
    for node in graph.graph.node:
        kept = [prop for prop in node.metadata_props if prop.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        del value.metadata_props[:]


def _require_straight(graph: onnx.ModelProto) -> None:
    branches = [op for op in ("If", "Loop", "Scan") if op in count_nodes(graph)]
    if branches:
        raise ExportError(
            f"the graph branches ({', '.join(branches)}), which engines miscompile",
            mend="use a version of torch and onnxscript that the documentation names",
        )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's chatter off the terminal: what matters is raised."""
    was = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(was)
