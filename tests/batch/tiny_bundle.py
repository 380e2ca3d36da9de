"""A real bundle with a small ONNX model, made without torch: mean colour times a matrix."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cytodino.bundle.folder import record_file
from cytodino.bundle.golden import GOLDEN_NAME, add_logits
from cytodino.bundle.manifest import (
    EngineVerdict,
    GoldenSource,
    Manifest,
    ModelFile,
    Preprocessing,
    Provenance,
    Variant,
    write_manifest,
)
from cytodino.calibration import Targets, calibrate
from cytodino.calibration.file import Confidence, ModelCalibration, write_confidence
from cytodino.limits import LIMITS
from cytodino.statistics import softmax
from cytodino.taxonomy import CODES

from .conftest import draw_crops, write_crops

WEIGHTS = (np.random.default_rng(5).normal(size=(3, 21)) / 32).astype(np.float32)
GOLDEN_CELLS = 40


def reference_logits(crops: list[np.ndarray]) -> np.ndarray:
    """What the graph computes, in numpy: float32 (n, 21)."""
    return np.stack([crop.reshape(-1, 3).mean(axis=0) @ WEIGHTS for crop in crops]).astype(
        np.float32
    )


def draw_calibration(cells: int = 900, *, provider: str = "CPUExecutionProvider", **targets: float):
    """A calibration of the small model, on crops labelled at temperature 1.5."""
    crops = draw_crops(cells, seed=77)
    logits = reference_logits(crops)
    drawn = np.random.default_rng(3).random((cells, 1))
    labels = (softmax(logits / 1.5).cumsum(axis=1) > drawn).argmax(axis=1)
    ids = [f"calibration-{at}" for at in range(cells)]
    return ModelCalibration(
        variant="fp32",
        engine="onnxruntime",
        provider=provider,
        machine="test",
        calibration=calibrate(logits, labels, ids, Targets(**{"accuracy": 0.7, **targets})),
    )


def write_bundle(
    path: Path,
    *,
    drift: float = 0.0,
    verdict: str = "passed",
    run: str = "",
    calibration: ModelCalibration | None = None,
) -> Path:
    """Write a bundle; `drift` is added to one golden logit, `run` is the sha256 of its run."""
    path.mkdir(parents=True)
    _write_model(path / "model.fp32.onnx")
    crops = draw_crops(GOLDEN_CELLS, seed=9)
    write_crops(path / GOLDEN_NAME, crops)
    logits = reference_logits(crops)
    logits[:, 0] += drift
    add_logits(path / GOLDEN_NAME, logits, {})
    model = record_file(path / "model.fp32.onnx")
    files = {GOLDEN_NAME: record_file(path / GOLDEN_NAME)}
    if calibration is not None:
        confidence = Confidence(
            created=datetime(2025, 1, 1, tzinfo=UTC),
            cytodino_version="0.1.0",
            targets=calibration.calibration.review.targets,
            source={"path": "drawn"},
            models=(calibration,),
        )
        written = write_confidence(path, confidence)
        files[written.name] = record_file(written)
    manifest = Manifest(
        created=datetime(2025, 1, 1, tzinfo=UTC),
        cytodino_version="0.1.0",
        classes=CODES,
        image_size=64,
        preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
        models={"fp32": ModelFile(file="model.fp32.onnx", **model.model_dump())},
        files=files,
        variants={
            "fp32": Variant(
                file="model.fp32.onnx",
                usable=verdict == "passed",
                verdicts=(
                    EngineVerdict(
                        engine="onnxruntime",
                        provider="CPUExecutionProvider",
                        machine="test",
                        verdict=verdict,
                    ),
                ),
            )
        },
        limits=dict(LIMITS),
        provenance=Provenance(
            run={"sha256": run} if run else {},
            backbone={},
            data={},
            acceptance={},
            golden=GoldenSource(path="drawn", parts=("given",), seed=9, ids=()),
            versions={},
            machine={},
            options={},
            licence="none",
        ),
    )
    write_manifest(path, manifest)
    return path


def _write_model(path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean_colour",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 21])],
        [
            numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "axes"),
            numpy_helper.from_array(WEIGHTS, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
