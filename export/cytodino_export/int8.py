"""Static INT8 by NNCF, as QuantizeLinear and DequantizeLinear in ONNX.

Quantised are the products with weights of the transformer blocks, per output channel, with
SmoothQuant. All else stays float: preprocessing, patch embedding, residual sums, LayerNorm,
softmax, the two products inside attention, and the whole head.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.errors import ExportError, MissingExtraError
from cytodino_export.graph_file import save_graph
from cytodino_export.graph_parts import cut_at, open_graph
from cytodino_export.graph_regions import Regions, find_regions
from cytodino_export.qdq import extract_blocks, insert_blocks

if TYPE_CHECKING:
    import onnx

__all__ = ["Int8Report", "ReturnedGroup", "quantise", "to_int8"]

SMOOTHING = 0.5
"""How far SmoothQuant moves the activations' spread into the weights, 0 to 1: the SmoothQuant
paper's own value. NNCF's 0.95 doubled the error on every model tried here, with outliers and
without."""

Crops = Sequence[NDArray[np.uint8]]


class ReturnedGroup(BaseModel):
    """Nodes that went back to float, and what that was worth on the tuning cells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Such as ``block 3 down_proj``."""
    nodes: tuple[str, ...]
    error_before: float
    """Relative logit error: RMS change of the logits, in standard deviations of the reference's."""
    error_after: float
    probability_before: float
    """Largest change of a probability, 0 to 1."""
    probability_after: float


class Int8Report(BaseModel):
    """What was quantised and what it cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    products: int
    """MatMul and Gemm nodes that compute in INT8."""
    calibration_crops: int
    tuning_crops: int = 0
    """0 where nothing was tuned."""
    returned: tuple[ReturnedGroup, ...] = ()
    """Groups that went back to float, in their order."""
    tuning_error: float | None = None
    """Relative logit error on the tuning cells, at the end."""
    tuning_probability: float | None = None
    tuning_failures: tuple[str, ...] = ()
    """Limits that the tuning cells still break, as sentences."""
    seconds: float = 0.0
    peak_memory: int | None = None
    """Bytes of the quantising process at its largest; None where the system does not tell."""


def to_int8(
    source: Path,
    target: Path,
    calibration_crops: Crops,
    *,
    float_nodes: Iterable[str] = (),
    reduce_range: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Int8Report:
    """Write a graph's INT8 variant, calibrated on real crops.

    Takes several times the model's size in memory; `int8_process.quantise_in_child` does it in a
    process of its own, and tunes besides.

    Parameters
    ----------
    source : Path
        FP32 ONNX file.
    target : Path
        The file to write.
    calibration_crops : sequence of uint8, (h, w, 3), RGB
        Of any sizes; the graph brings them to its own.
    float_nodes : names of nodes, optional
        More nodes that stay float.
    reduce_range : bool
        Use 7 bits of each weight, for CPUs whose INT8 products saturate (x86 without VNNI).
    say : callable
        Told what is being done.

    Raises
    ------
    ExportError
        If there are no crops, the graph is not that of a DINOv3 classifier, NNCF cannot quantise
        it, or the result fails the ONNX checker.
    MissingExtraError
        If NNCF is not installed.
    """
    import onnx

    if not len(calibration_crops):
        raise ExportError("no crops to calibrate INT8 on", mend="give some cells to --calibration")
    model = onnx.load(source)
    regions = find_regions(model)
    say(f"reading {len(calibration_crops)} calibration crops")
    tokens = _tokens(model, regions, calibration_crops)
    blocks = extract_blocks(model, regions, tokens[0].shape[1:])
    say("quantising")
    ignored = (regions.attention | regions.mixing | set(float_nodes)) & regions.blocks
    quantised = quantise(blocks, regions.tokens, tokens, ignored, reduce_range=reduce_range)
    result = insert_blocks(model, regions, quantised)
    save_graph(result, target, "INT8")
    return Int8Report(
        products=count_int8_products(result), calibration_crops=len(calibration_crops)
    )


def count_int8_products(model: "onnx.ModelProto") -> int:
    """Count the products whose two factors are both dequantised."""
    made = {
        name
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.output
    }
    return sum(
        node.op_type in ("MatMul", "Gemm") and made.issuperset(node.input[:2])
        for node in model.graph.node
    )


def _tokens(model: "onnx.ModelProto", regions: Regions, crops: Crops) -> list[NDArray[np.float32]]:
    """Run the part before the blocks: (1, tokens, hidden) a crop."""
    before, _ = cut_at(model, regions.preprocessing | regions.patch_embedding, regions.tokens)
    session = open_graph(before)
    return [session.run(None, {"crops": crop[None]})[0] for crop in crops]


def quantise(
    blocks: "onnx.ModelProto",
    name: str,
    tokens: Sequence[NDArray[Any]],
    ignored: Iterable[str],
    *,
    reduce_range: bool,
) -> "onnx.ModelProto":
    """Quantise a graph with one input as the blocks are: static QDQ by NNCF, with SmoothQuant.

    Parameters
    ----------
    blocks : onnx.ModelProto
    name : str
        Of its input.
    tokens : list of arrays
        What the input is given, to calibrate on.
    ignored : names of nodes
        Those that stay float.
    reduce_range : bool
        Use 7 bits of each weight.

    Raises
    ------
    ExportError
        If NNCF cannot quantise the graph.
    MissingExtraError
        If NNCF is not installed.
    """
    with _silence():
        try:
            import nncf
            from nncf.quantization.advanced_parameters import (
                AdvancedQuantizationParameters,
                AdvancedSmoothQuantParameters,
                OverflowFix,
            )
            from nncf.quantization.range_estimator import RangeEstimatorParametersSet
        except ImportError as error:
            raise MissingExtraError("nncf", "export") from error
        nncf.set_log_level(logging.ERROR)
        try:
            result: onnx.ModelProto = nncf.quantize(
                blocks,
                nncf.Dataset(tokens, lambda item: {name: item}),
                subset_size=len(tokens),
                model_type=nncf.ModelType.TRANSFORMER,
                target_device=nncf.TargetDevice.CPU,
                ignored_scope=nncf.IgnoredScope(names=sorted(ignored)),
                advanced_parameters=AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE if reduce_range else OverflowFix.DISABLE,
                    smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=SMOOTHING),
                    # The default, a mean of the crops' extremes, clips the cells that stand out.
                    activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                ),
            )
        except (nncf.errors.ValidationError, nncf.errors.InternalError, RuntimeError) as error:
            raise ExportError(f"NNCF cannot quantise the graph: {error}") from error
    return result


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep NNCF's and its libraries' chatter off the terminal: what matters is raised."""
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
