"""A graph too large for one file keeps its weights beside it, and nowhere else."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cytodino.bundle import open_bundle
from cytodino.bundle.verification import verify_bundle
from cytodino.engines.compiled_cache import hash_model, weights_beside
from cytodino.engines.selection import open_model
from cytodino.errors import BundleError, EngineError, ExportError
from cytodino_export import gate, graph_file, graph_parts
from cytodino_export.deploy import fold
from cytodino_export.graph_file import save_graph
from cytodino_export.graph_parts import float_logits
from cytodino_export.int8 import to_int8
from cytodino_export.onnx_graph import write_graph
from cytodino_export.pipeline import ExportOptions, ExportResult, export_run

ENGINES = ("onnxruntime", "openvino")
CROPS = np.random.default_rng(0).integers(0, 256, (3, 40, 36, 3), dtype=np.uint8)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file hold 1,000 bytes, so that a tiny model is over the limit."""
    monkeypatch.setattr(graph_file, "LARGEST_FILE", 1_000)
    monkeypatch.setattr(graph_parts, "LARGEST_FILE", 1_000)


@pytest.fixture
def whole(exported: ExportResult) -> Path:
    assert exported.bundle is not None
    return exported.bundle / "model.fp32.onnx"


@pytest.fixture
def divided(whole: Path, tmp_path: Path, small_files: None) -> Path:
    return save_graph(onnx.load(whole), tmp_path / "model.onnx", "FP32")


def logits_of(path: Path, engine: str) -> np.ndarray:
    with open_model(path, engine=engine) as opened:
        return opened.logits(CROPS)


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_lie_beside_and_the_answers_are_the_same(
    whole: Path, divided: Path, engine: str
) -> None:
    assert weights_beside(divided).stat().st_size > 10 * divided.stat().st_size / 11
    assert not weights_beside(whole).exists()
    np.testing.assert_array_equal(logits_of(divided, engine), logits_of(whole, engine))


def test_the_graph_in_memory_keeps_its_weights(whole: Path, divided: Path) -> None:
    model = onnx.load(whole)
    before = [tensor.raw_data for tensor in model.graph.initializer]
    save_graph(model, divided, "FP32")
    assert [tensor.raw_data for tensor in model.graph.initializer] == before
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    once = weights_beside(divided).stat().st_size
    first = float_logits(model, CROPS)
    np.testing.assert_array_equal(float_logits(model, CROPS), first)
    save_graph(model, divided, "FP32")
    assert weights_beside(divided).stat().st_size == once


def test_the_cache_is_keyed_by_the_weights_too(divided: Path) -> None:
    before = hash_model(divided)
    with weights_beside(divided).open("r+b") as file:
        file.write(b"other")
    assert hash_model(divided) != before


@pytest.mark.usefixtures("small_files")
def test_the_exporter_and_int8_write_such_files(make_model: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_graph(fold(make_model()), path, image_size=32, metadata={})
    to_int8(path, tmp_path / "int8.onnx", list(CROPS))
    for written in (path, tmp_path / "int8.onnx"):
        assert weights_beside(written).is_file()
        assert np.isfinite(logits_of(written, "onnxruntime")).all()


@pytest.mark.usefixtures("small_files")
def test_a_bundle_of_such_files_is_whole_checked_and_verified(
    run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "probe", lambda *a, **o: None)
    out = tmp_path / "bundle"
    assert export_run(run_path, out, ExportOptions(precisions=("fp16",))).refused is None
    beside = {f"model.{precision}.onnx.data" for precision in ("fp32", "fp16")}
    assert beside <= set(open_bundle(out).manifest.files)
    assert verify_bundle(out).refused is None
    for name in beside:
        data = bytearray((out / name).read_bytes())
        data[len(data) // 2] ^= 1
        (out / name).write_bytes(data)
        with pytest.raises(BundleError, match="changed since the export"):
            open_bundle(out)
        data[len(data) // 2] ^= 1
        (out / name).write_bytes(data)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", ["a path", "a link"])
def test_weights_outside_the_folder_are_refused(
    divided: Path, tmp_path: Path, engine: str, way: str
) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    model = onnx.load(divided, load_external_data=False)
    secret = Path(shutil.copy(weights_beside(divided), tmp_path / "secret.bin"))
    if way == "a link":
        (folder / "link.data").symlink_to(secret)
    location = "../secret.bin" if way == "a path" else "link.data"
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="cannot open the model.*(outside|validation failed)"):
        logits_of(folder / "model.onnx", engine)


@pytest.mark.parametrize("largest", [1_000, 2**31])
def test_an_unsound_graph_is_refused(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(graph_file, "LARGEST_FILE", largest)
    model = onnx.load(whole)
    model.graph.node[3].input[0] = "nothing"
    with pytest.raises(ExportError, match="checker refuses the FP32 graph"):
        save_graph(model, tmp_path / "model.onnx", "FP32")
