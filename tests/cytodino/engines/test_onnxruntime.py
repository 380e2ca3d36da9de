from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from cytodino.engines import onnxruntime as engine_module
from cytodino.engines.onnxruntime import CUDA, OnnxRuntimeEngine, conflicting_wheels
from cytodino.errors import EngineError, MissingExtraError, MissingPathError


def pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """List CUDA as onnxruntime-gpu does on a box where it cannot load."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, engine_module.CPU])
    session = onnxruntime.InferenceSession

    def land_on_cpu(*arguments: Any, **options: Any) -> Any:
        options["providers"] = [engine_module.CPU]
        return session(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", land_on_cpu)


def test_threads_are_this_process_share_of_the_cores(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "cores_available", lambda: 3)
    with OnnxRuntimeEngine(model_path) as engine:
        assert engine.describe().options["threads"] == 3
    with OnnxRuntimeEngine(model_path, threads=1) as engine:
        assert engine.describe().options["threads"] == 1


def test_the_graph_is_optimised_in_full_and_threads_do_not_spin(model_path: Path) -> None:
    with OnnxRuntimeEngine(model_path) as engine:
        options = engine._session.get_session_options()
        assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_for_throughput_every_crop_is_a_request_and_for_latency_all_are_one(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 40, 36, 3), dtype=np.uint8)
    sizes: list[int] = []
    run = OnnxRuntimeEngine._run

    def count(self: OnnxRuntimeEngine, part: np.ndarray) -> np.ndarray:
        sizes.append(len(part))
        return run(self, part)

    monkeypatch.setattr(OnnxRuntimeEngine, "_run", count)
    answers = {}
    for goal, threads in (("throughput", 1), ("latency", 2)):
        with OnnxRuntimeEngine(model_path, threads=2, goal=goal) as engine:
            answers[goal] = engine.logits(crops)
            assert engine._session.get_session_options().intra_op_num_threads == threads
            assert engine.describe().options["goal"] == goal
            assert engine.describe().options["crop_by_crop"] is (goal == "throughput")
    assert sizes == [1, 1, 1, 1, 1, 5]
    assert np.abs(answers["throughput"] - answers["latency"]).max() < 1e-5


def test_for_throughput_a_crop_says_the_same_to_the_bit_in_any_batch(model_path: Path) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (7, 40, 36, 3), dtype=np.uint8)
    with OnnxRuntimeEngine(model_path, threads=3) as engine:
        whole = engine.logits(crops)
        assert np.array_equal(engine.logits(crops[::-1])[::-1], whole)
        assert np.array_equal(engine.logits(crops[4:5]), whole[4:5])


def test_several_callers_at_once_get_their_own_answers(model_path: Path) -> None:
    sets = np.random.default_rng(2).integers(0, 256, (6, 4, 40, 36, 3), dtype=np.uint8)
    with OnnxRuntimeEngine(model_path, threads=2) as engine:
        expected = [engine.logits(crops) for crops in sets]
        with ThreadPoolExecutor(4) as callers:
            found = list(callers.map(engine.logits, sets))
    assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))


def test_a_goal_that_there_is_none_of(model_path: Path) -> None:
    with pytest.raises(EngineError, match="no goal comfort"):
        OnnxRuntimeEngine(model_path, goal="comfort")


def test_cuda_without_its_provider_is_an_error(model_path: Path) -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(EngineError, match="no CUDA provider.*cytodino\\[gpu\\]"):
        OnnxRuntimeEngine(model_path, device="cuda")


def test_cuda_that_lands_on_the_cpu_is_an_error_with_the_cause(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_cuda(monkeypatch)
    with pytest.raises(EngineError, match="fell back to the CPU: .*cannot open shared object"):
        OnnxRuntimeEngine(model_path, device="cuda")


def test_auto_that_lands_on_the_cpu_says_so(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_cuda(monkeypatch)
    with OnnxRuntimeEngine(model_path, device="auto") as engine:
        assert engine.device == "cpu"
        assert any("CUDA did not load" in warning for warning in engine.describe().warnings)


def test_tf32_is_off_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, engine_module.CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    providers = engine_module._choose_providers(onnxruntime, "cuda")
    assert providers == [(CUDA, {"use_tf32": "0"}), engine_module.CPU]


def test_a_device_that_there_is_none_of(model_path: Path) -> None:
    with pytest.raises(EngineError, match="no device tpu"):
        OnnxRuntimeEngine(model_path, device="tpu")


def test_both_wheels_are_noticed_and_said(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not conflicting_wheels()
    monkeypatch.setattr(metadata, "version", lambda name: "1.0")
    assert conflicting_wheels()
    with OnnxRuntimeEngine(model_path) as engine:
        assert any("overwrite each other" in warning for warning in engine.describe().warnings)


def test_a_missing_onnxruntime_names_the_extra(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[cpu\]"):
        OnnxRuntimeEngine(model_path)


def test_a_missing_model(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError):
        OnnxRuntimeEngine(tmp_path / "none.onnx")


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(EngineError, match="cannot open the model") as caught:
        OnnxRuntimeEngine(path)
    assert "\n" not in str(caught.value)


def write_linear(path: Path, classes: int) -> Path:
    """A graph that fails on crops that are not 8 x 8, with so many classes."""
    helper = onnx.helper
    shape = onnx.numpy_helper.from_array(np.array([-1, 192], dtype=np.int64), "shape")
    weight = onnx.numpy_helper.from_array(np.ones((192, classes), dtype=np.float32), "weight")
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    crops = helper.make_tensor_value_info("crops", onnx.TensorProto.UINT8, ["n", "h", "w", 3])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", classes])
    graph = helper.make_graph(nodes, "linear", [crops], [logits], [shape, weight])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def test_a_failure_while_running_is_an_engine_error(tmp_path: Path) -> None:
    with (
        OnnxRuntimeEngine(write_linear(tmp_path / "model.onnx", 21)) as engine,
        pytest.raises(EngineError, match="failed on crops"),
    ):
        engine.logits(np.zeros((1, 5, 5, 3), dtype=np.uint8))


def test_another_number_of_classes_is_an_engine_error(tmp_path: Path) -> None:
    with (
        OnnxRuntimeEngine(write_linear(tmp_path / "model.onnx", 20)) as engine,
        pytest.raises(EngineError, match="not float32 \\(2, 21\\)"),
    ):
        engine.logits(np.zeros((2, 8, 8, 3), dtype=np.uint8))
