"""FP16 with float32 islands where DINOv3 overflows.

The converters of onnxruntime and onnxconverter-common are not used: they clip constants without a
word, and between two neighbouring nodes that are to stay float32 they still put a cast to FP16 and
back, so that the attention scores overflow on their way from the product to the softmax.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino_export.graph_file import save_graph
from cytodino_export.graph_regions import find_regions

if TYPE_CHECKING:
    import onnx

__all__ = ["HALF_SUFFIX", "SINGLE_SUFFIX", "Fp16Report", "float_tensors", "to_fp16"]

HALF_MAX = 65504.0
"""The largest finite FP16 number."""

ROUNDING = 2.0**-10
"""Most that rounding to FP16 may change a constant, in L2 norm relative to its own. Normal FP16
numbers round to within 2**-11; more than twice that means that values fell under the range."""

HALF_SUFFIX = "__fp16"
SINGLE_SUFFIX = "__fp32"

_MOVES = frozenset(
    [
        "Concat",
        "Expand",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ]
)
_ALWAYS_SINGLE = frozenset({"Cast", "Constant", "ConstantOfShape", "Resize"})
"""Operators whose types are set by an attribute or by the standard."""


class Fp16Report(BaseModel):
    """What became FP16 and what did not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_nodes: int
    """Nodes that compute in FP16."""
    islands: dict[str, int]
    """Nodes that compute in float32, by the reason: preprocessing, attention, norm, constant,
    range, fixed (reads constants only, so that an engine works it out once), border."""
    grown: tuple[str, ...]
    """Nodes that are float32 because of the range of a value."""
    constants: tuple[str, ...]
    """Constants that FP16 cannot hold: beyond 65,504, or mostly lost under its smallest numbers."""
    casts: int
    """Casts at the borders of the islands."""


def to_fp16(source: Path, target: Path, *, grown: Iterable[str] = ()) -> Fp16Report:
    """Write a graph's FP16 variant; uint8 inputs and float32 outputs keep their types.

    Preprocessing, attention scores, softmax and LayerNormalization stay float32, and so does each
    node with a constant that FP16 cannot hold.

    Parameters
    ----------
    source : Path
        FP32 ONNX file.
    target : Path
        The file to write.
    grown : names of nodes, optional
        More nodes that stay float32; see `fp16_ranges.to_examined_fp16`.

    Raises
    ------
    ExportError
        If the graph is not that of a DINOv3 classifier, or the result fails the ONNX checker.
    """
    import onnx

    model = onnx.load(source)
    floats = float_tensors(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    lost = _lost_constants(constants.values())
    reasons = _reasons(model, floats, lost, frozenset(grown))
    _join_moves(model, floats, constants, reasons)
    conversion = _Conversion(model, floats, set(reasons))
    result = conversion.run()
    save_graph(result, target, "FP16")
    named = list(reasons.values())
    return Fp16Report(
        half_nodes=conversion.half_nodes,
        islands={reason: named.count(reason) for reason in dict.fromkeys(named)},
        grown=tuple(name for name, reason in reasons.items() if reason == "range"),
        constants=tuple(sorted(lost)),
        casts=conversion.casts,
    )


def float_tensors(model: "onnx.ModelProto", *, half: bool = False) -> set[str]:
    """Name all float32 (or FP16) tensors of a graph, constants included.

    Types are inferred on a copy without weights, so that size does not matter.
    """
    import onnx

    bare = onnx.ModelProto()
    bare.opset_import.extend(model.opset_import)
    bare.ir_version = model.ir_version
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if onnx.external_data_helper.uses_external_data(tensor) or len(tensor.dims) > 1:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            bare.graph.input.append(value)
        else:
            bare.graph.initializer.append(tensor)  # shapes and axes, which inference reads
    inferred = onnx.shape_inference.infer_shapes(bare).graph
    wanted = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    found = {tensor.name for tensor in inferred.initializer if tensor.data_type == wanted}
    for values in (inferred.input, inferred.output, inferred.value_info):
        found |= {value.name for value in values if value.type.tensor_type.elem_type == wanted}
    return found


def _lost_constants(tensors: "Iterable[onnx.TensorProto]") -> set[str]:
    import onnx

    return {
        tensor.name
        for tensor in tensors
        if tensor.data_type == onnx.TensorProto.FLOAT
        and not _fits_half(onnx.numpy_helper.to_array(tensor))
    }


def _fits_half(values: NDArray[np.float32]) -> bool:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    if not np.isfinite(rounded).all():
        return False
    change = np.linalg.norm((rounded.astype(np.float64) - values).ravel())
    return bool(change <= ROUNDING * np.linalg.norm(values.astype(np.float64).ravel()))


def _reasons(
    model: "onnx.ModelProto", floats: set[str], lost: set[str], grown: frozenset[str]
) -> dict[str, str]:
    """Why each node of an island is in it, by the node's name."""
    regions = find_regions(model)
    reasons: dict[str, str] = {}
    fixed = {"", *(tensor.name for tensor in model.graph.initializer)}
    for node in model.graph.node:
        if fixed.issuperset(node.input):
            fixed.update(node.output)
        if floats.isdisjoint((*node.input, *node.output)):
            continue
        if node.name in regions.preprocessing:
            reasons[node.name] = "preprocessing"
        elif node.name in regions.attention:
            reasons[node.name] = "attention"
        elif node.name in regions.norms:
            reasons[node.name] = "norm"
        elif not lost.isdisjoint(node.input):
            reasons[node.name] = "constant"
        elif node.name in grown:
            reasons[node.name] = "range"
        elif fixed.issuperset(node.input):
            reasons[node.name] = "fixed"
        elif node.op_type in _ALWAYS_SINGLE:
            reasons[node.name] = "border"
    return reasons


def _join_moves(
    model: "onnx.ModelProto",
    floats: set[str],
    constants: "dict[str, onnx.TensorProto]",
    reasons: dict[str, str],
) -> None:
    """Let nodes that only move values join an island that lies all round them: two casts less."""
    single = {name for node in model.graph.node if node.name in reasons for name in node.output}
    single |= constants.keys() | {value.name for value in model.graph.input}
    read_by_half: dict[str, int] = {}
    for node in model.graph.node:
        if node.name not in reasons:
            for name in node.input:
                read_by_half[name] = read_by_half.get(name, 0) + 1
    for node in model.graph.node:
        values = [name for name in node.input if name in floats]
        around = all(name in single for name in values) and not any(
            read_by_half.get(name) for name in node.output
        )
        if node.name not in reasons and node.op_type in _MOVES and values and around:
            reasons[node.name] = "border"
            single.update(node.output)


class _Conversion:
    """Rewrites a graph node by node, with one cast a tensor and direction."""

    def __init__(self, model: "onnx.ModelProto", floats: set[str], islands: set[str]) -> None:
        self.model = model
        self.floats = floats
        self.islands = islands
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {value.name for value in model.graph.output}
        self.nodes: list[onnx.NodeProto] = []
        self.half: set[str] = set()
        """Tensors, by their name in the source, that are made in FP16."""
        self.names: dict[tuple[str, bool], str] = {}
        """(source's name, wanted in FP16) to the name of the tensor of that type."""
        self.half_constants: set[str] = set()
        self.single_constants: set[str] = set()
        self.half_nodes = 0
        self.casts = 0

    def run(self) -> "onnx.ModelProto":
        import onnx

        for node in self.model.graph.node:
            self._add(node)
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        del result.graph.node[:]
        del result.graph.value_info[:]  # it tells the source's types
        del result.graph.initializer[:]
        result.graph.node.extend(self.nodes)
        result.graph.initializer.extend(self._constants())
        return result

    def _add(self, node: "onnx.NodeProto") -> None:
        import onnx

        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        makes_half = node.name not in self.islands and not self.floats.isdisjoint(
            (*node.input, *node.output)
        )
        for place, name in enumerate(node.input):
            if name in self.floats:
                copy.input[place] = self._input(name, half=makes_half)
        self.nodes.append(copy)
        if not makes_half:
            return
        self.half_nodes += 1
        for place, name in enumerate(node.output):
            if name not in self.floats:
                continue
            self.half.add(name)
            if name in self.outputs:  # the graph's output keeps its name and its type
                copy.output[place] = name + HALF_SUFFIX
                self.names[name, True] = name + HALF_SUFFIX
                self._cast(name + HALF_SUFFIX, name, half=False)

    def _input(self, name: str, *, half: bool) -> str:
        if name in self.constants:
            (self.half_constants if half else self.single_constants).add(name)
            return name + HALF_SUFFIX if half else name
        if (name, half) not in self.names:
            if (name in self.half) == half:
                self.names[name, half] = name
            else:
                self.names[name, half] = name + (HALF_SUFFIX if half else SINGLE_SUFFIX)
                self._cast(name, self.names[name, half], half=half)
        return self.names[name, half]

    def _cast(self, before: str, after: str, *, half: bool) -> None:
        import onnx

        to = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        self.casts += 1
        node = onnx.helper.make_node("Cast", [before], [after], name=f"cast_{after}", to=to)
        self.nodes.append(node)

    def _constants(self) -> "Iterator[onnx.TensorProto]":
        import onnx

        for name, tensor in self.constants.items():
            if name not in self.floats or name in self.single_constants:
                yield tensor
            if name in self.half_constants:
                values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
                yield onnx.numpy_helper.from_array(values, name + HALF_SUFFIX)
