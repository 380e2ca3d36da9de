"""Would FP16 hold on a GPU? Asked of the CPU in ways that cannot hide it.

CPU engines compute FP16 graphs in float32 and leave out the casts between, so that a value of
256,000 comes out finite. Here the float32 graph tells the true range of every tensor that the FP16
graph keeps in FP16, on real crops, and ONNX's reference evaluator runs the FP16 graph in FP16.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.errors import ExportError
from cytodino.limits import LIMITS, Limits
from cytodino.parity import compare
from cytodino_export.fp16 import HALF_SUFFIX, SINGLE_SUFFIX, Fp16Report, float_tensors, to_fp16
from cytodino_export.fp16_constants import strayed_constants
from cytodino_export.graph_parts import cut_at, float_logits, open_graph
from cytodino_export.graph_regions import find_regions

if TYPE_CHECKING:
    import onnx

__all__ = [
    "RANGE_LIMIT",
    "RangeReport",
    "examine_fp16",
    "reference_logits",
    "tensor_ranges",
    "to_examined_fp16",
]

RANGE_LIMIT = 16_000.0
"""Largest value that a tensor kept in FP16 may reach on the examined crops: a quarter of what
FP16 holds, so that other crops have room."""

MOST_ROUNDS = 3
"""Islands are grown in one round; the second proves it, a third would mean that it does not end."""

REFERENCE_CROPS = 2
"""Crops for the reference evaluator, which takes seconds to minutes a crop."""

Crops = Sequence[NDArray[np.uint8]]


class RangeReport(BaseModel):
    """Ranges of the FP16 tensors on real crops, and what the reference evaluator said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crops: int
    tensors: int
    """Tensors, other than constants, that the graph keeps in FP16."""
    limit: float
    largest: float
    """Largest magnitude in any of them; infinite where a value was not finite."""
    largest_tensor: str
    beyond: dict[str, float]
    """Tensors beyond the limit, with their largest magnitude."""
    islands: tuple[str, ...]
    """Nodes that would have to be float32 for none to be beyond the limit."""
    reference_crops: int
    """Crops that went through the reference evaluator; 0 where that was not asked."""
    reference_finite: bool
    reference_probability_max: float | None
    """Largest change of a probability, reference evaluator against the FP32 graph."""
    failures: tuple[str, ...]
    """What speaks against the FP16 graph, as sentences."""


def to_examined_fp16(
    source: Path,
    target: Path,
    crops: Crops,
    *,
    limit: float = RANGE_LIMIT,
    reference_crops: int = REFERENCE_CROPS,
) -> tuple[Fp16Report, RangeReport]:
    """Write the FP16 variant, with islands grown until no FP16 tensor is beyond the limit.

    Parameters
    ----------
    source : Path
        FP32 ONNX file.
    target : Path
        The file to write.
    crops : sequence of uint8, (h, w, 3), RGB
        Real cells, of any sizes; 16 or more say something.
    limit : float
        Largest magnitude allowed in FP16.
    reference_crops : int
        How many of the crops go through the reference evaluator as well.

    Raises
    ------
    ExportError
        If there are no crops, or the graph is not that of a DINOv3 classifier.
    """
    grown: set[str] = set()
    for _ in range(MOST_ROUNDS):
        conversion = to_fp16(source, target, grown=grown)
        ranges = examine_fp16(source, target, crops, limit=limit, reference_crops=0)
        if not ranges.beyond:
            break
        grown.update(ranges.islands)
    if reference_crops:
        ranges = examine_fp16(source, target, crops, limit=limit, reference_crops=reference_crops)
    return conversion, ranges


def examine_fp16(
    source: Path,
    model: Path,
    crops: Crops,
    *,
    limit: float = RANGE_LIMIT,
    reference_crops: int = REFERENCE_CROPS,
    limits: Limits | None = None,
) -> RangeReport:
    """Ask whether a FP16 graph holds the FP32 one's constants and would overflow, without a GPU.

    Parameters
    ----------
    source : Path
        The FP32 ONNX file that it was made from.
    model : Path
        FP16 ONNX file written by `to_fp16`.
    crops : sequence of uint8, (h, w, 3), RGB
    limit : float
        Largest magnitude allowed in FP16.
    reference_crops : int
        How many of the crops go through the reference evaluator; 0 for none.
    limits : Limits, optional
        What its logits may differ by; those of fp16 unless given.

    Raises
    ------
    ExportError
        If there are no crops.
    """
    import onnx

    single, half = onnx.load(source), onnx.load(model)
    names = _half_values(half)
    ranges = tensor_ranges(single, crops, sorted(names))
    # Written so that a NaN is beyond as well.
    beyond = {name: value for name, value in ranges.items() if not value <= limit}
    largest = max(ranges, key=lambda name: ranges[name], default="")
    some = list(crops[:reference_crops])
    finite, moved, failures = _ask_reference(single, half, some, limits or LIMITS["fp16"])
    if beyond:
        worst = max(beyond, key=lambda name: beyond[name])
        failures = (
            f"{len(beyond)} FP16 tensors are beyond {limit:g}; {worst} reaches {beyond[worst]:.4g}",
            *failures,
        )
    failures = strayed_constants(single, half) + failures
    return RangeReport(
        crops=len(crops),
        tensors=len(names),
        limit=limit,
        largest=ranges.get(largest, 0.0),
        largest_tensor=largest,
        beyond=beyond,
        islands=_island_nodes(single, beyond),
        reference_crops=len(some),
        reference_finite=finite,
        reference_probability_max=moved,
        failures=failures,
    )


def tensor_ranges(model: "onnx.ModelProto", crops: Crops, names: Iterable[str]) -> dict[str, float]:
    """Largest magnitude of each float32 tensor over all crops, inf where one is not finite.

    The maxima are taken inside the graph, so that no activation has to leave it.
    """
    import onnx

    if not len(crops):
        raise ExportError("no crops to examine the FP16 ranges on", mend="give some real cells")
    wanted = list(names)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for place, name in enumerate(wanted):
        probe.graph.node.append(
            onnx.helper.make_node("Abs", [name], [f"magnitude_{place}"], name=f"abs_{place}")
        )
        reduce = onnx.helper.make_node(
            "ReduceMax", [f"magnitude_{place}"], [f"range_{place}"], name=f"max_{place}", keepdims=0
        )
        probe.graph.node.append(reduce)
        value = onnx.helper.make_tensor_value_info(f"range_{place}", onnx.TensorProto.FLOAT, [])
        probe.graph.output.append(value)
    found = np.zeros(len(wanted))
    session = open_graph(probe)
    for crop in crops:
        seen = np.asarray(session.run(None, {"crops": crop[None]}), dtype=np.float64)
        found = np.maximum(found, np.where(np.isnan(seen), np.inf, seen))
    return dict(zip(wanted, (float(value) for value in found), strict=True))


def reference_logits(model: "onnx.ModelProto", crops: Crops) -> NDArray[np.float32]:
    """Logits float32 (n, 21) by ONNX's reference evaluator, which computes FP16 as FP16.

    The preprocessing, float32 in any case, is done by ONNX Runtime: the evaluator's Resize takes
    minutes. Products sum in float32 and round once, as GPUs do; numpy's would take hours.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    regions = find_regions(model)
    before, after = cut_at(model, regions.preprocessing, regions.pixels)
    session = open_graph(before)
    evaluator = ReferenceEvaluator(after, new_ops=_rounding_products(onnx))
    logits = []
    with np.errstate(all="ignore"):
        for crop in crops:
            feed: dict[str, Any] = {"crops": crop[None]}
            feed[regions.pixels] = session.run([regions.pixels], feed)[0]
            answer: Any = evaluator.run(None, feed)
            logits.append(np.asarray(answer[0]))
    return np.concatenate(logits)


def _half_values(model: "onnx.ModelProto") -> set[str]:
    """Name, as in the source, all tensors that a graph keeps in FP16, less constants."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        name.removesuffix(HALF_SUFFIX).removesuffix(SINGLE_SUFFIX)
        for name in float_tensors(model, half=True) - constants
    }


def _island_nodes(model: "onnx.ModelProto", beyond: dict[str, float]) -> tuple[str, ...]:
    """Nodes that make or read a value beyond the limit: each end of it has to be float32."""
    return tuple(
        node.name
        for node in model.graph.node
        if not beyond.keys().isdisjoint((*node.input, *node.output))
    )


def _ask_reference(
    single: "onnx.ModelProto", half: "onnx.ModelProto", crops: Crops, limits: Limits
) -> tuple[bool, float | None, tuple[str, ...]]:
    if not crops:
        return True, None, ()
    found = reference_logits(half, crops)
    if not np.isfinite(found).all():
        return False, None, ("the reference evaluator's logits are not finite",)
    # An agreement of a few cells says nothing; flips of a clear margin still count.
    few = limits.model_copy(update={"agreement": None})
    report = compare(float_logits(single, crops), found, few)
    said = tuple(f"the reference evaluator: {failure}" for failure in report.failures)
    return True, report.probability_max, said


def _rounding_products(onnx: Any) -> list[type]:
    """MatMul for the reference evaluator: FP16 in, float32 sums, one rounding to FP16."""
    from onnx.reference.op_run import OpRun

    class MatMul(OpRun):
        def _run(self, a: Any, b: Any) -> tuple[Any]:
            product = np.matmul(a.astype(np.float32), b.astype(np.float32))
            return (np.asarray(product).astype(a.dtype),)

    return [MatMul]
