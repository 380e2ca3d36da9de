"""A bundle around a linear model: small enough to build without torch."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import cytodino
from cytodino.archive import write_archive
from cytodino.bundle.folder import record_file
from cytodino.bundle.golden import GOLDEN_NAME, add_logits
from cytodino.bundle.manifest import (
    MANIFEST_NAME,
    EngineVerdict,
    GoldenSource,
    Manifest,
    ModelFile,
    Preprocessing,
    Provenance,
    Variant,
    seal,
    write_manifest,
)
from cytodino.cells import MemoryCells
from cytodino.limits import LIMITS
from cytodino.taxonomy import CODES, N_CLASSES

CPU = "CPUExecutionProvider"
CELLS = 210


def write_linear(path: Path, weight: np.ndarray) -> None:
    """Mean colour of a crop times a matrix (3, 21)."""
    helper = onnx.helper
    constants = [
        onnx.numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "axes"),
        onnx.numpy_helper.from_array(np.array(255, dtype=np.float32), "white"),
        onnx.numpy_helper.from_array(weight.astype(np.float32), "weight"),
    ]
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "white"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weight"], ["logits"]),
    ]
    crops = helper.make_tensor_value_info("crops", onnx.TensorProto.UINT8, ["n", "h", "w", 3])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", N_CLASSES])
    graph = helper.make_graph(nodes, "linear", [crops], [logits], constants)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def linear_weight() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 8, (3, N_CLASSES))


def draw_crops(n: int = CELLS) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    shapes = [(12, 10, 3), (9, 14, 3)]
    return [
        generator.integers(0, 256, 3).astype(np.uint8) * np.ones(shapes[row % 2], dtype=np.uint8)
        for row in range(n)
    ]


def write_bundle(folder: Path, *, cells: int = CELLS, usable: bool = True) -> Path:
    folder.mkdir()
    write_linear(folder / "model.fp32.onnx", linear_weight())
    crops = draw_crops(cells)
    labels = np.arange(cells) % N_CLASSES
    ids = [f"{CODES[label]}/{row}.png" for row, label in enumerate(labels)]
    write_archive(folder / GOLDEN_NAME, MemoryCells(crops, ids=ids, labels=labels, slide="golden"))
    colours = np.array([crop.reshape(-1, 3).mean(axis=0) for crop in crops]) / 255
    reference = (colours @ linear_weight()).astype(np.float32)
    add_logits(folder / GOLDEN_NAME, reference, {"fp32.onnxruntime": reference})
    (folder / "parity.json").write_text("{}\n")
    (folder / "NOTICE.md").write_text("licence\n")
    model = record_file(folder / "model.fp32.onnx")
    others = [GOLDEN_NAME, "parity.json", "NOTICE.md"]
    verdict = EngineVerdict(
        engine="onnxruntime",
        provider=CPU,
        machine="elsewhere",
        verdict="passed" if usable else "failed",
    )
    manifest = Manifest(
        created=datetime.now(UTC),
        cytodino_version=cytodino.__version__,
        classes=CODES,
        image_size=32,
        preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
        models={"fp32": ModelFile(file="model.fp32.onnx", sha256=model.sha256, bytes=model.bytes)},
        files={name: record_file(folder / name) for name in others},
        variants={"fp32": Variant(file="model.fp32.onnx", verdicts=(verdict,), usable=usable)},
        limits={"fp32": LIMITS["fp32"]},
        provenance=Provenance(
            run={},
            backbone={},
            data={},
            acceptance={},
            golden=GoldenSource(path="cells", parts=("test",), seed=0, ids=tuple(ids)),
            versions={},
            machine={},
            options={},
            licence="none",
        ),
    )
    write_manifest(folder, manifest)
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and the records of the files, sealed anew, as an exporter would."""
    document = json.loads((folder / "cytodino.json").read_text())
    for entry in document["models"].values():
        entry |= record_file(folder / entry["file"]).model_dump()
    for name in document["files"]:
        document["files"][name] = record_file(folder / name).model_dump()
    change(document)
    (folder / MANIFEST_NAME).write_bytes(seal(document))


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture
def bundle_path(pristine: Path, tmp_path: Path) -> Path:
    """A bundle of one's own to break."""
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep this machine's own cache out of the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reseal() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    return rewrite


@pytest.fixture
def build() -> Callable[..., Path]:
    return write_bundle


@pytest.fixture
def linear() -> Callable[[Path, np.ndarray], None]:
    return write_linear
