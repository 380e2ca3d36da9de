"""Hold the FP16 file's constants against those of the FP32 file that passed.

Logits cannot say so of every layer: in a trained model 3 % of some biases, and of some matrices,
move them by less than FP16's own rounding does.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytodino_export.fp16 import HALF_SUFFIX

if TYPE_CHECKING:
    import onnx

__all__ = ["strayed_constants"]

FLOATS = (np.float16, np.float32)


def strayed_constants(source: "onnx.ModelProto", half: "onnx.ModelProto") -> tuple[str, ...]:
    """Hold each float constant of an FP16 graph against the FP32 graph's, to the bit.

    Parameters
    ----------
    source : onnx.ModelProto
        The FP32 graph.
    half : onnx.ModelProto
        The FP16 graph that `to_fp16` made from it.

    Returns
    -------
    tuple of str
        A sentence for each constant that is not the source's, rounded to its type.
    """
    from onnx import numpy_helper

    expected = {tensor.name: tensor for tensor in source.graph.initializer}
    said = []
    for tensor in half.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype not in FLOATS:
            continue
        name = tensor.name.removesuffix(HALF_SUFFIX)
        if name not in expected:
            said.append(f"the constant {name} is not in the FP32 file")
            continue
        change = _relative_change(numpy_helper.to_array(expected[name]), values)
        if change is not None:
            said.append(f"the constant {name} is not the FP32 file's: it is off by {change:.2g}")
    return tuple(said)


def _relative_change(source: NDArray[np.float32], values: NDArray[np.floating]) -> float | None:
    """Change in L2 norm relative to the source's; None where every value is the same."""
    with np.errstate(over="ignore"):
        rounded = source.astype(values.dtype)
    if np.array_equal(rounded, values):
        return None
    if rounded.shape != values.shape:
        return float("inf")
    with np.errstate(all="ignore"):
        change = np.linalg.norm((values.astype(np.float64) - source).ravel())
        return float(change / np.linalg.norm(source.astype(np.float64).ravel()))
