"""Which part of the model a node of the exported graph belongs to, told from the graph alone.

Names come from the exporter and change with its version; the structure does not. The patch
embedding is the first convolution of the pixels, the head begins behind the first LayerNorm that
every path from the crops to the logits passes (inside the blocks, the residual goes round them),
and attention scores are what a Softmax reads.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cytodino.errors import ExportError

if TYPE_CHECKING:
    import onnx

__all__ = ["Regions", "find_regions", "product_of"]

_SHAPE_ONLY = frozenset({"Shape", "Size"})
_MOVES = frozenset(
    {"Reshape", "Transpose", "Cast", "Squeeze", "Unsqueeze", "Identity", "Split", "Slice", "Gather"}
)
_SCALES = frozenset({"Mul", "Div", "Add", "Sub", "Where"})
_PRODUCTS = frozenset({"MatMul", "Gemm"})
_MEND = "export the run again with the version of torch that the documentation names"


@dataclass(frozen=True)
class Regions:
    """Node names by their part of the model, and the tensors at the borders."""

    preprocessing: frozenset[str]
    """From the crops to the normalised pixel values."""
    patch_embedding: frozenset[str]
    """From the pixel values to the tokens of the first block."""
    blocks: frozenset[str]
    """The transformer blocks and the backbone's last LayerNorm."""
    head: frozenset[str]
    attention: frozenset[str]
    """Score products with their scaling, and softmax, in the blocks and in the head."""
    mixing: frozenset[str]
    """Products of attention weights and values."""
    norms: frozenset[str]
    pixels: str
    """Tensor float32 (n, 3, S, S): input of the patch embedding."""
    tokens: str
    """Tensor (n, tokens, hidden): input of the first block."""
    memory: str
    """Tensor (n, tokens, hidden): what the head reads."""
    groups: dict[str, tuple[str, ...]]
    """Products with weights in the blocks, by a name such as ``block 3 down_proj``."""


def find_regions(model: "onnx.ModelProto") -> Regions:
    """Divide a graph with one input and one output.

    Parameters
    ----------
    model : onnx.ModelProto
        FP32, as written by `onnx_graph.write_graph`. Nodes in topological order, each named.

    Raises
    ------
    ExportError
        If the graph is not that of a DINOv3 classifier: no patch convolution, no LayerNorm, no
        attention, or nodes without a name of their own.
    """
    graph = _Graph(model)
    first_conv = next((node for node in graph.nodes if node.op_type == "Conv"), None)
    norms = [node for node in graph.nodes if node.op_type == "LayerNormalization"]
    last_norm = next((node for node in norms if graph.separates(node)), None)
    if first_conv is None or last_norm is None:
        missing = "patch convolution" if first_conv is None else "LayerNormalization"
        raise ExportError(f"the graph has no {missing}", mend=_MEND)
    pixels, memory = first_conv.input[0], last_norm.output[0]
    before_pixels = graph.ancestors([pixels])
    tokens = _first_tokens(graph, norms, first_conv)
    before_tokens = graph.ancestors([tokens])
    before_head = graph.ancestors([memory])
    blocks = before_head - before_tokens
    scores, mixing = _attention(graph)
    if not scores & blocks:
        raise ExportError("the graph's blocks have no attention", mend=_MEND)
    return Regions(
        preprocessing=frozenset(before_pixels),
        patch_embedding=frozenset(before_tokens - before_pixels),
        blocks=frozenset(blocks),
        head=frozenset(graph.names - before_head),
        attention=frozenset(scores),
        mixing=frozenset(mixing),
        norms=frozenset(node.name for node in norms),
        pixels=pixels,
        tokens=tokens,
        memory=memory,
        groups=_group_products(graph, blocks, mixing),
    )


def product_of(node: "onnx.NodeProto", constants: Iterable[str]) -> bool:
    """Tell whether a node multiplies an activation with a weight matrix."""
    return node.op_type in _PRODUCTS and any(name in constants for name in node.input[:2])


class _Graph:
    """Who makes and who reads a tensor."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        self.nodes = list(model.graph.node)
        self.names = {node.name for node in self.nodes}
        if len(self.names) != len(self.nodes) or "" in self.names:
            raise ExportError("the graph's nodes do not have a name each", mend=_MEND)
        self.constants = {tensor.name for tensor in model.graph.initializer}
        self.constants |= {
            node.output[0] for node in self.nodes if node.op_type in ("Constant", "ConstantOfShape")
        }
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self.maker = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def ancestors(self, tensors: Iterable[str]) -> set[str]:
        """Names of all nodes that the tensors depend on."""
        found: set[str] = set()
        waiting = list(tensors)
        while waiting:
            node = self.maker.get(waiting.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                waiting.extend(node.input)
        return found

    def separates(self, barrier: "onnx.NodeProto") -> bool:
        """Tell whether no values but through this node reach the output; shapes do not count."""
        reached = set(self.inputs)
        for node in self.nodes:
            passes = node is not barrier and node.op_type not in _SHAPE_ONLY
            if passes and not reached.isdisjoint(node.input):
                reached.update(node.output)
        return reached.isdisjoint(self.outputs)

    def before_moves(self, tensor: str) -> "onnx.NodeProto | None":
        """Return what made a tensor, apart from reshapes and the like."""
        node = self.maker.get(tensor)
        while node is not None and node.op_type in _MOVES:
            node = self.maker.get(node.input[0])
        return node

    def is_product_of_activations(self, node: "onnx.NodeProto") -> bool:
        return node.op_type == "MatMul" and self.constants.isdisjoint(node.input)


def _first_tokens(
    graph: _Graph, norms: "list[onnx.NodeProto]", first_conv: "onnx.NodeProto"
) -> str:
    for norm in norms:
        if first_conv.name in graph.ancestors([norm.input[0]]):
            return str(norm.input[0])
    raise ExportError("no LayerNormalization reads the patches", mend=_MEND)


def _attention(graph: _Graph) -> tuple[set[str], set[str]]:
    """Names of (scores with softmax, products of weights and values)."""
    scores: set[str] = set()
    mixing: set[str] = set()
    for softmax in (node for node in graph.nodes if node.op_type == "Softmax"):
        path = _score_path(graph, softmax)
        if not path:
            continue  # a softmax over something else than products of activations
        scores.add(softmax.name)
        scores.update(path)
        mixing.update(_mixing_of(graph, softmax))
    return scores, mixing


def _score_path(graph: _Graph, softmax: "onnx.NodeProto") -> set[str]:
    """Names from the score product to the softmax, with scalings of its two operands."""
    path: set[str] = set()
    node = graph.maker.get(softmax.input[0])
    while node is not None and not graph.is_product_of_activations(node):
        if node.op_type not in _SCALES | _MOVES:
            return set()
        path.add(node.name)
        node = graph.maker.get(_activation_of(graph, node))
    if node is None:
        return set()
    path.add(node.name)
    for operand in node.input:
        scaling = graph.before_moves(operand)
        if (
            scaling is not None
            and scaling.op_type in ("Mul", "Div")
            and not graph.constants.isdisjoint(scaling.input)
        ):
            path.add(scaling.name)
    return path


def _activation_of(graph: _Graph, node: "onnx.NodeProto") -> str:
    return next((str(name) for name in node.input if name not in graph.constants), "")


def _mixing_of(graph: _Graph, softmax: "onnx.NodeProto") -> set[str]:
    found: set[str] = set()
    waiting = list(softmax.output)
    while waiting:
        for reader in graph.readers.get(waiting.pop(), ()):
            if reader.op_type == "MatMul":
                found.add(reader.name)
            elif reader.op_type in _MOVES:
                waiting.extend(reader.output)
    return found


def _group_products(
    graph: _Graph, blocks: set[str], mixing: set[str]
) -> dict[str, tuple[str, ...]]:
    """Name the weight products: in every block qkv, (mixing), o_proj, up_proj, down_proj."""
    groups: dict[str, list[str]] = {}
    block, mixed = 0, False
    for node in graph.nodes:
        if node.name not in blocks:
            continue
        if node.name in mixing:
            mixed = True
        if not product_of(node, graph.constants):
            continue
        source = graph.before_moves(_activation_of(graph, node))
        if source is not None and source.op_type == "LayerNormalization":
            role = "up_proj" if mixed else "qkv"
        else:
            role = "o_proj" if source is not None and source.name in mixing else "down_proj"
        groups.setdefault(f"block {block} {role}", []).append(node.name)
        if role == "down_proj":
            block, mixed = block + 1, False
    return {name: tuple(nodes) for name, nodes in groups.items()}
