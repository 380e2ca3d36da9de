"""Measure INT8 on a ViT-S/16 at 256 pixels with outlier channels in every LayerNorm.

Run ``python benchmarks/int8_outliers.py``; it takes some minutes, prints a table and replaces
``benchmarks/results/int8_outliers.json``. Weights are drawn from a seed, cells are synthetic.
"""

import json
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytodino.modeling.backbone import SHAPES, random_backbone
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.preprocessing import Preprocess
from cytodino.synthetic import draw_cell
from cytodino.taxonomy import CODES
from cytodino_bench.outliers import FACTOR, SHARE, add_outliers, compare_quantisers
from cytodino_export.deploy import fold
from cytodino_export.int8_process import quantise_in_child
from cytodino_export.onnx_graph import write_graph

if TYPE_CHECKING:
    from torch import nn

SIZE, SEED, CALIBRATION, CELLS = 256, 0, 16, 32
RESULT = Path(__file__).parent / "results" / "int8_outliers.json"


def draw_model() -> CytoDino:
    """ViT-S/16 with random weights, LayerScale 0.05 to 1, gains and biases that are not trivial."""
    import torch

    torch.manual_seed(SEED)
    backbone = random_backbone("small", image_size=SIZE).model
    model = CytoDino(backbone, DecoderHead(SHAPES["small"][0]), Preprocess(SIZE)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lambda1" in name:
                weight.uniform_(0.05, 1.0)
            elif "norm" in name and name.endswith("weight"):
                weight.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                weight.normal_(0.0, 0.05)
    return model


def draw_crops(count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Draw cells of all classes in turn."""
    generator = np.random.default_rng(seed)
    return [draw_cell(CODES[i % len(CODES)], seed=generator, size=250) for i in range(count)]


def logits_of(model: "nn.Module", crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Logits by PyTorch, float32, crop by crop."""
    import torch

    with torch.inference_mode():
        return np.concatenate([model(torch.from_numpy(crop[None])).numpy() for crop in crops])


def main() -> None:
    """Measure, print, store."""
    started = time.monotonic()
    calibration, crops = draw_crops(CALIBRATION, 1), draw_crops(CELLS, 2)
    model = draw_model()
    before = logits_of(model, crops)
    norms = add_outliers(model, seed=SEED)
    reference = logits_of(model, crops)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "model.fp32.onnx"
        write_graph(fold(model), source, image_size=SIZE, metadata={})
        report = quantise_in_child(
            source,
            folder / "model.int8.onnx",
            calibration,
            say=lambda text: print(text, file=sys.stderr),
        )
        errors = compare_quantisers(
            reference, folder / "model.int8.onnx", source, crops, calibration, folder
        )
    result = {
        "model": f"ViT-S/16, {SIZE} px, random weights, seed {SEED}",
        "outliers": {"factor": FACTOR, "share": SHARE, "layer_norms": norms},
        "float_change": float(np.abs(reference - before).max() / before.std()),
        "error": "RMS change of the logits, in standard deviations of the reference's",
        "relative_logit_error": errors,
        "calibration_crops": CALIBRATION,
        "crops": CELLS,
        "int8_products": report.products,
        "quantising_seconds": round(report.seconds, 1),
        "quantising_peak_gib": round((report.peak_memory or 0) / 2**30, 2),
        "seconds": round(time.monotonic() - started, 1),
        "machine": platform.machine(),
        "versions": {
            library: version(library) for library in ("nncf", "onnxruntime", "openvino", "torch")
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
