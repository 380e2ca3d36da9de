"""TensorRT without a GPU: what is asked of it, and what is refused."""

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cytodino.engines import tensorrt
from cytodino.engines.onnxruntime import COMPUTING, CPU, CUDA, OnnxRuntimeEngine
from cytodino.engines.tensorrt import (
    TENSORRT,
    engine_folder,
    library_version,
    tensorrt_options,
    tensorrt_provider,
    why_refused,
)
from cytodino.errors import EngineError
from cytodino.machine import describe_machine

SOUND = (10, 9, 0)


class FakeSession:
    """A session that put each operator where the test says."""

    def __init__(self, providers: list[str], placed: dict[str, list[str]]) -> None:
        self.providers, self.placed = providers, placed

    def disable_fallback(self) -> None:
        pass

    def get_providers(self) -> list[str]:
        return self.providers

    def get_provider_graph_assignment_info(self) -> list[Any]:
        def part(name: str, operators: list[str]) -> Any:
            nodes = [SimpleNamespace(op_type=operator) for operator in operators]
            return SimpleNamespace(ep_name=name, get_nodes=lambda: nodes)

        return [part(name, operators) for name, operators in self.placed.items()]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back what the opening sets for the whole process."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a GPU build in onnxruntime's place; tell it what opens, read from it what was asked."""
    import onnxruntime

    asked: dict[str, Any] = {
        "opens": [TENSORRT, CUDA, CPU],
        "placed": {TENSORRT: ["MatMul"], CPU: ["Shape", "Concat"]},
    }

    def session(path: str, options: Any, *, providers: list[Any]) -> FakeSession:
        asked["providers"] = providers
        return FakeSession(asked["opens"], asked["placed"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(tensorrt, "library_version", lambda: SOUND)
    return asked


def open_tensorrt(model: Path, **options: Any) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(model, device="cuda", provider=TENSORRT, **options)


def test_only_the_fp16_file_may_be_computed_in_fp16() -> None:
    assert tensorrt_options("fp32", None)["trt_fp16_enable"] == "0"
    assert tensorrt_options("fp16", None)["trt_fp16_enable"] == "1"
    for variant in ("fp32", "fp16"):
        options = tensorrt_options(variant, None)
        assert options["trt_int8_enable"] == options["trt_timing_cache_enable"] == "0"
        assert options["trt_dump_subgraphs"] == options["trt_engine_cache_enable"] == "0"
        assert "trt_engine_cache_path" not in options
    with pytest.raises(EngineError, match="does not run int8"):
        tensorrt_options("int8", None)


def test_engines_are_kept_by_model_card_driver_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    model.write_bytes(b"one")
    other.write_bytes(b"two")
    machine = describe_machine().model_copy(update={"gpus": ("H100",), "gpu_driver": "550"})
    updated = machine.model_copy(update={"gpu_driver": "560"})
    moved = machine.model_copy(update={"gpus": ("L4",)})
    monkeypatch.setattr(tensorrt, "library_version", lambda: SOUND)

    def folder(model: Path, variant: str = "fp32", runtime: str = "1.2", on: Any = machine) -> Path:
        return engine_folder(tmp_path, model, variant, runtime=runtime, machine=on)

    first = folder(model)
    assert first == folder(model)
    assert first.parent == tmp_path
    others = [folder(other), folder(model, "fp16"), folder(model, runtime="1.3")]
    others += [folder(model, on=updated), folder(model, on=moved)]
    monkeypatch.setattr(tensorrt, "library_version", lambda: (10, 9, 1))
    others.append(folder(model))
    assert len({first, *others}) == 7


def test_it_stands_before_cuda_without_tf32(
    model_path: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    with open_tensorrt(model_path, cache=tmp_path / "cache") as engine:
        assert (engine.device, engine.describe().provider) == ("cuda", TENSORRT)
    (name, options), cuda, cpu = asked["providers"]
    assert (name, cuda, cpu) == (TENSORRT, (CUDA, {"use_tf32": "0"}), CPU)
    assert Path(options["trt_engine_cache_path"]).parent == tmp_path / "cache"
    assert Path(options["trt_engine_cache_path"]).is_dir()
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_a_cache_that_cannot_be_written_costs_only_time(
    model_path: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    (tmp_path / "file").touch()
    open_tensorrt(model_path, cache=tmp_path / "file").close()
    assert asked["providers"][0][1]["trt_engine_cache_enable"] == "0"


@pytest.mark.parametrize(("version", "report"), [((10, 3, 0), "4723"), ((10, 4, 1), "4742")])
def test_versions_that_miscompile_are_refused_with_the_report(
    model_path: Path,
    asked: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int, int],
    report: str,
) -> None:
    monkeypatch.setattr(tensorrt, "library_version", lambda: version)
    said = rf"10\.{version[1]}\.{version[2]} miscompiles.*{report}"
    with pytest.raises(EngineError, match=said):
        open_tensorrt(model_path)
    assert "providers" not in asked
    assert why_refused((10, 5, 0)) is None
    assert "does not load" in str(why_refused(None))


def test_falling_back_to_cuda_or_to_the_cpu_is_an_error(
    model_path: Path, asked: dict[str, Any]
) -> None:
    asked["opens"] = [CUDA, CPU]
    with pytest.raises(EngineError, match="fell back from TensorRT to CUDA"):
        open_tensorrt(model_path)
    asked["opens"] = [CPU]
    with pytest.raises(EngineError, match="fell back to the CPU"):
        open_tensorrt(model_path)


@pytest.mark.parametrize("provider", [TENSORRT, None])
def test_work_left_to_the_cpu_is_an_error_and_shapes_are_not(
    model_path: Path, asked: dict[str, Any], provider: str | None
) -> None:
    asked["opens"] = [provider or CUDA, CPU]
    OnnxRuntimeEngine(model_path, device="cuda", provider=provider).close()
    asked["placed"] = {asked["opens"][0]: ["Conv"], CPU: ["Shape", "LayerNormalization"]}
    with pytest.raises(EngineError, match="leaves LayerNormalization to the CPU, behind"):
        OnnxRuntimeEngine(model_path, device="cuda", provider=provider)


def test_an_onnxruntime_that_does_not_tell_is_said(
    model_path: Path, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FakeSession, "get_provider_graph_assignment_info")
    with open_tensorrt(model_path) as engine:
        assert any("does not tell" in warning for warning in engine.describe().warnings)


def test_the_names_of_what_computes_are_those_that_onnxruntime_gives(model_path: Path) -> None:
    with OnnxRuntimeEngine(model_path) as engine:
        parts = engine._session.get_provider_graph_assignment_info()
        found = {node.op_type for part in parts for node in part.get_nodes()}
        assert {part.ep_name for part in parts} == {CPU}
    assert {"Conv", "LayerNormalization", "MatMul", "Softmax", "Resize"} <= found & COMPUTING
    left = found - COMPUTING
    assert not {name for name in left if "Gemm" in name or "MatMul" in name or "Norm" in name}


def test_an_onnxruntime_without_it_names_what_to_install(model_path: Path) -> None:
    ort = SimpleNamespace(__version__="1.0", get_available_providers=lambda: [CUDA])
    with pytest.raises(EngineError, match=r"no TensorRT provider.*cytodino\[gpu\]"):
        tensorrt_provider(ort, model_path, "fp32", None)


def test_the_version_is_the_librarys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(tensorrt.importlib.util, "find_spec", lambda name: spec)
    loads = {str(tmp_path / "libnvinfer.so.10"): 101300}

    def load(name: str, mode: int) -> Any:
        if name not in loads:
            raise OSError
        return SimpleNamespace(getInferLibVersion=lambda: loads[name])

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert library_version() == (10, 13, 0)
    loads.clear()
    assert library_version() is None
