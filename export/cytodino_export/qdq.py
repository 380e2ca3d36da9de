"""Graphs with QuantizeLinear and DequantizeLinear: take the blocks out, put them back, undo some.

Only the blocks are ever shown to the quantiser. Preprocessing, patch embedding and head therefore
stay as they are to the bit: told to ignore them, NNCF still smooths the head's weights.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cytodino.errors import ExportError
from cytodino_export.graph_parts import drop_unread_constants
from cytodino_export.graph_regions import Regions

if TYPE_CHECKING:
    import onnx

__all__ = ["extract_blocks", "insert_blocks", "restore_float"]

_BLOCKS_PREFIX = "int8."
_FLOAT_SUFFIX = "__float"


def extract_blocks(
    model: "onnx.ModelProto", regions: Regions, shape: tuple[int, int]
) -> "onnx.ModelProto":
    """Return the transformer blocks as a graph of their own.

    Parameters
    ----------
    model : onnx.ModelProto
        FP32.
    regions : Regions
        Of this model.
    shape : (tokens, hidden)
        Of the tokens that the first block reads.

    Raises
    ------
    ExportError
        If the blocks read anything but the tokens.
    """
    import onnx

    blocks = onnx.ModelProto()
    blocks.CopyFrom(model)
    del blocks.graph.node[:], blocks.graph.input[:], blocks.graph.output[:]
    del blocks.graph.value_info[:]
    blocks.graph.node.extend(n for n in model.graph.node if n.name in regions.blocks)
    drop_unread_constants(blocks)
    made = {name for node in blocks.graph.node for name in node.output}
    made |= {tensor.name for tensor in blocks.graph.initializer}
    read = {name for node in blocks.graph.node for name in node.input if name}
    if read - made != {regions.tokens}:
        strangers = ", ".join(sorted(read - made - {regions.tokens})[:3])
        raise ExportError(f"the blocks read more than the tokens: {strangers}")
    for values, name in (
        (blocks.graph.input, regions.tokens),
        (blocks.graph.output, regions.memory),
    ):
        values.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", *shape])
        )
    return blocks


def insert_blocks(
    model: "onnx.ModelProto", regions: Regions, blocks: "onnx.ModelProto"
) -> "onnx.ModelProto":
    """Return the model with its blocks replaced, all else as it was."""
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.value_info[:]
    before = regions.preprocessing | regions.patch_embedding
    nodes = list(model.graph.node)
    result.graph.node.extend(node for node in nodes if node.name in before)
    result.graph.node.extend(blocks.graph.node)
    place = len(before)
    result.graph.node.extend(n for n in nodes if n.name not in before | regions.blocks)
    outside = {tensor.name: tensor for tensor in model.graph.initializer}
    renamed: dict[str, str] = {}
    for tensor in blocks.graph.initializer:
        if tensor.name in outside and tensor != outside[tensor.name]:
            renamed[tensor.name] = _BLOCKS_PREFIX + tensor.name
        elif tensor.name in outside:
            continue
        added = result.graph.initializer.add()
        added.CopyFrom(tensor)
        added.name = renamed.get(tensor.name, tensor.name)
    for node in result.graph.node[place : place + len(blocks.graph.node)]:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    drop_unread_constants(result)
    return result


def restore_float(
    quantised: "onnx.ModelProto", source: "onnx.ModelProto", names: Iterable[str]
) -> "onnx.ModelProto":
    """Give products of a quantised graph their float inputs, weights and biases back.

    Parameters
    ----------
    quantised : onnx.ModelProto
        Made from `source`, whose nodes keep their names.
    source : onnx.ModelProto
        FP32.
    names : names of MatMul or Gemm nodes
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(quantised)
    chosen = set(names)
    constants = {tensor.name: tensor for tensor in source.graph.initializer}
    originals = {node.name: node for node in source.graph.node}
    products = {name for node in chosen for name in originals[node].output}
    biased = {
        node.name
        for node in source.graph.node
        if node.op_type == "Add" and not products.isdisjoint(node.input)
    }
    for node in result.graph.node:
        if node.name in chosen | biased:
            for index, name in enumerate(originals[node.name].input):
                node.input[index] = _original(result, constants, name)
    _drop_unread_nodes(result)
    drop_unread_constants(result)
    return result


def _original(model: "onnx.ModelProto", constants: "dict[str, onnx.TensorProto]", name: str) -> str:
    """Name that a source's tensor has in the quantised graph; a constant is added if need be."""
    if name not in constants:
        return name
    for tensor in model.graph.initializer:
        if tensor.name == name and tensor == constants[name]:
            return name
        if tensor.name == name + _FLOAT_SUFFIX:
            return name + _FLOAT_SUFFIX
    added = model.graph.initializer.add()
    added.CopyFrom(constants[name])
    added.name = name + _FLOAT_SUFFIX
    return name + _FLOAT_SUFFIX


def _drop_unread_nodes(model: "onnx.ModelProto") -> None:
    read = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
