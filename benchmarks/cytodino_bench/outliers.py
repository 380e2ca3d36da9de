"""The outlier stress: a model that is the same in float and much harder in INT8.

Large vision transformers grow channels that are tens of times larger than the rest. Multiplying
some channels of a LayerNorm's gain and bias and dividing the columns of the matrices that read
them builds such channels without changing the function.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.onnxruntime_library import import_onnxruntime
from cytodino.engines.openvino_library import openvino_core
from cytodino_export.int8_tuning import relative_logit_error

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cytodino.modeling.classifier import CytoDino

__all__ = ["add_outliers", "compare_quantisers", "openvino_logits", "quantise_by_onnxruntime"]

FACTOR = 40.0
"""How many times larger an outlier channel is."""

SHARE = 0.02
"""Share of the channels of each LayerNorm that become outliers, at least one."""

Crops = Sequence[NDArray[np.uint8]]


def add_outliers(
    model: "CytoDino", *, factor: float = FACTOR, share: float = SHARE, seed: int = 0
) -> int:
    """Give every LayerNorm, in backbone and head, outlier channels; the function stays the same.

    Parameters
    ----------
    model : CytoDino
        Plain weights, without an adapter. Changed in place.
    factor, share, seed
        How much larger, how many of the channels, and which.

    Returns
    -------
    int
        How many LayerNorms there were.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    count = 0
    with torch.no_grad():
        for norm, readers in _norms(model):
            width = norm.weight.shape[0]
            chosen = torch.randperm(width, generator=generator)[: max(1, int(width * share))]
            norm.weight[chosen] *= factor
            norm.bias[chosen] *= factor
            for matrix in readers:  # (out, in)
                matrix[:, chosen] /= factor
            count += 1
    return count


def _norms(model: "CytoDino") -> "Iterator[tuple[nn.LayerNorm, list[torch.Tensor]]]":
    """Yield each LayerNorm with the weight matrices that read it."""
    from cytodino_export.deploy import backbone_blocks

    backbone: Any = model.backbone
    for block in backbone_blocks(backbone):
        attention, mlp = block.attention, block.mlp
        yield (
            block.norm1,
            [p.weight for p in (attention.q_proj, attention.k_proj, attention.v_proj)],
        )
        yield block.norm2, [mlp.up_proj.weight, *_gate(mlp)]
    head: Any = model.head
    hidden = head.hidden
    layers = list(head.decoder.layers)
    yield backbone.norm, [layer.multihead_attn.in_proj_weight[hidden:] for layer in layers]
    for layer in layers:
        yield layer.norm1, [layer.self_attn.in_proj_weight]
        yield layer.norm2, [layer.multihead_attn.in_proj_weight[:hidden]]
        yield layer.norm3, [layer.linear1.weight]
    yield head.norm, [head.classifier.weight]


def _gate(mlp: Any) -> "list[torch.Tensor]":
    return [mlp.gate_proj.weight] if hasattr(mlp, "gate_proj") else []


def compare_quantisers(
    reference: NDArray[np.float32],
    int8: Path,
    float32: Path,
    crops: Crops,
    calibration: Crops,
    folder: Path,
) -> dict[str, float]:
    """Relative logit error of an INT8 file on two engines, and of onnxruntime's own quantiser.

    Parameters
    ----------
    reference : float32, (n, 21)
        PyTorch's logits of the crops.
    int8 : Path
        What is shipped.
    float32 : Path
        What it was made from.
    crops, calibration : uint8, (h, w, 3), RGB
        All of one size: onnxruntime's calibration stacks them.
    folder : Path
        For the other quantiser's file.
    """
    import onnx

    from cytodino_export.graph_parts import float_logits

    peer = quantise_by_onnxruntime(float32, folder / "onnxruntime.int8.onnx", calibration)
    found = {
        "float onnxruntime": float_logits(onnx.load(float32), crops),
        "shipped onnxruntime": float_logits(onnx.load(int8), crops),
        "shipped openvino": openvino_logits(int8, crops),
        "onnxruntime's static quantiser": float_logits(onnx.load(peer), crops),
    }
    return {name: relative_logit_error(reference, logits) for name, logits in found.items()}


def openvino_logits(path: Path, crops: Crops) -> NDArray[np.float32]:
    """Logits float32 (n, 21) by OpenVINO on the CPU, float32 where the graph is float."""
    compiled = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    # Its own copy of every crop: by default it would keep the caller's memory.
    answers = [compiled(crop[None], share_inputs=False)[0].copy() for crop in crops]
    return np.concatenate(answers)


def quantise_by_onnxruntime(source: Path, target: Path, calibration: Crops) -> Path:
    """Quantise with onnxruntime's static quantiser: QDQ, min-max, per channel, all else default."""
    import_onnxruntime()  # as it is meant here, before any part of it
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.waiting = iter(calibration)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            crop = next(self.waiting, None)
            return None if crop is None else {"crops": crop[None]}

    quantization.quantize_static(
        source,
        target,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        calibrate_method=quantization.CalibrationMethod.MinMax,
        per_channel=True,
    )
    return target
