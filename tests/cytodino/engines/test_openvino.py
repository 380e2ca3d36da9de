import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from cytodino.engines import openvino as engine_module
from cytodino.engines import openvino_library
from cytodino.engines.onnxruntime import OnnxRuntimeEngine
from cytodino.engines.openvino import VARIANTS, OpenVinoEngine
from cytodino.errors import EngineError, MissingExtraError, MissingPathError

pytest.importorskip("openvino")

HAS_BF16 = openvino_library.supports_bf16()
HERE = [name for name in VARIANTS if HAS_BF16 or VARIANTS[name][1] != "bf16"]
GOALS = ("throughput", "latency")


def draw(n: int, height: int = 40, width: int = 36, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


class Crops(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime publishes no types
    def __init__(self) -> None:
        self._left = iter([{"crops": draw(4)}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


@pytest.fixture(scope="session")
def models(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file by precision; fp16 stands for the float32 islands' types, which do not matter here."""
    folder = tmp_path_factory.mktemp("quantised")
    quant_pre_process(model_path, folder / "prepared.onnx", skip_symbolic_shape=True)
    quantize_static(
        folder / "prepared.onnx",
        folder / "model.int8.onnx",
        Crops(),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
    )
    return {"fp32": model_path, "fp16": model_path, "int8": folder / "model.int8.onnx"}


def reference(model: Path, crops: np.ndarray) -> np.ndarray:
    with OnnxRuntimeEngine(model, device="cpu", threads=1) as engine:
        return engine.logits(crops)


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("variant", HERE)
class TestEveryVariant:
    def test_it_says_what_the_file_says_elsewhere(
        self, models: dict[str, Path], variant: str, goal: str
    ) -> None:
        file, precision = VARIANTS[variant]
        expected = reference(models[file], draw(9))
        with OpenVinoEngine(models[file], variant=variant, goal=goal) as engine:
            difference = np.abs(engine.logits(draw(9)) - expected).max() / expected.std()
            assert engine.describe().options["precision"] == precision
        if variant in ("fp32", "fp16"):
            assert difference < 1e-5
        else:  # a difference there must be, or the precision was not what it says
            assert 1e-5 < difference < 0.1

    def test_a_cell_says_the_same_alone_in_a_batch_shuffled_and_padded(
        self, models: dict[str, Path], variant: str, goal: str
    ) -> None:
        crops = draw(11)
        order = np.random.default_rng(3).permutation(11)
        padded = np.concatenate([crops, np.zeros_like(crops[:6])])
        with OpenVinoEngine(models[VARIANTS[variant][0]], variant=variant, goal=goal) as engine:
            batch = engine.logits(crops)
            alone = np.concatenate([engine.logits(crop[None]) for crop in crops])
            shuffled = engine.logits(crops[order])
            filled = engine.logits(padded)[:11]
        assert np.abs(alone - batch).max() <= 1e-5
        assert np.abs(shuffled - batch[order]).max() <= 1e-5
        assert np.abs(filled - batch).max() <= 1e-5

    def test_no_sequence_of_calls_changes_the_callers_arrays_or_the_answers(
        self, models: dict[str, Path], variant: str, goal: str
    ) -> None:
        same = [draw(5), draw(5, seed=1), draw(6, seed=2)]
        other = [draw(5, 20, 50, seed=3), draw(2, 64, 64, seed=4)]
        frozen = draw(5, seed=5)
        frozen.setflags(write=False)
        arrays = [*same, *other, frozen, frozen[::-1], same[0][1:3]]
        kept = [array.copy() for array in arrays]
        calls = [0, 1, 0, 3, 0, 5, 1, 6, 2, 4, 0, 7, 3, 5, 0]
        with OpenVinoEngine(models[VARIANTS[variant][0]], variant=variant, goal=goal) as engine:
            answers = [engine.logits(arrays[index]) for index in calls]
        assert all(map(np.array_equal, arrays, kept))
        with OpenVinoEngine(models[VARIANTS[variant][0]], variant=variant, goal=goal) as engine:
            for index, answer in zip(calls, answers, strict=True):
                assert np.abs(answer - engine.logits(kept[index].copy())).max() <= 1e-5


def test_each_answer_is_a_fresh_array(model_path: Path) -> None:
    with OpenVinoEngine(model_path) as engine:
        first = engine.logits(draw(9))
        kept = first.copy()
        engine.logits(draw(9, seed=1))
        assert np.array_equal(first, kept)
        first[:] = 0
        assert np.array_equal(engine.logits(draw(9)), kept)


def test_callers_in_several_threads_get_their_own_answers(model_path: Path) -> None:
    batches = [draw(9, seed=seed) for seed in range(12)]
    with OpenVinoEngine(model_path) as engine, ThreadPoolExecutor(4) as pool:
        expected = [engine.logits(batch) for batch in batches]
        found = list(pool.map(engine.logits, batches))
    assert all(map(np.array_equal, found, expected))


def test_throughput_has_streams_and_latency_has_all_threads_in_one(model_path: Path) -> None:
    with OpenVinoEngine(model_path, goal="latency", threads=2) as engine:
        found = engine.describe()
        assert (found.engine, found.variant, found.device) == ("openvino", "fp32", "cpu")
        assert (found.provider, found.warnings) == ("CPU", ())
        assert (found.options["streams"], found.options["threads"]) == (1, 2)
        assert (found.options["goal"], found.options["crops_per_request"]) == ("latency", 1)
        assert found.options["execution_mode"] == "accuracy"
    with OpenVinoEngine(model_path, threads=2) as engine:
        found = engine.describe()
        assert (found.options["streams"], found.options["threads"]) == (2, 2)
        assert (found.options["goal"], found.options["crops_per_request"]) == ("throughput", 4)


def test_streams_share_out_the_threads_and_share_no_weights(model_path: Path) -> None:
    with OpenVinoEngine(model_path, threads=3, streams=2) as engine:
        found = [
            (one.get_property("NUM_STREAMS"), one.get_property("INFERENCE_NUM_THREADS"))
            for one in engine._compiled
        ]
        asked = engine_module._share_out(7, 3), engine_module._share_out(2, 5)
    assert [streams for streams, _ in found] == [1, 1]
    assert asked == ([3, 2, 2], [1, 1])


def test_fewer_streams_than_asked_for_is_said_beside_the_notes(model_path: Path) -> None:
    with OpenVinoEngine(model_path, threads=1, streams=2, notes=("cuda is not used",)) as engine:
        warnings = engine.describe().warnings
    assert warnings == ("cuda is not used", "2 streams were asked for, there are threads for 1")


def test_threads_are_this_process_share_of_the_cores_and_a_share_is_not_pinned(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "cores_available", lambda: 1)
    monkeypatch.setattr(engine_module.os, "cpu_count", lambda: 2)
    with OpenVinoEngine(model_path) as engine:
        assert engine.describe().options["threads"] == 1
        assert engine.describe().options["pinning"] is False


def test_bf16_on_a_cpu_without_it_is_an_error(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "supports_bf16", lambda: False)
    with pytest.raises(EngineError, match="no bf16, which the variant int8-bf16 needs; use"):
        OpenVinoEngine(model_path, variant="int8-bf16")
    OpenVinoEngine(model_path, variant="int8").close()


def test_a_precision_other_than_asked_for_is_an_error(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = engine_module._compile_options
    monkeypatch.setattr(
        engine_module, "_compile_options", lambda _, *others: options("f16", *others)
    )
    with pytest.raises(EngineError, match="compiled fp32 at .*, not f32"):
        OpenVinoEngine(model_path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"variant": "int4"}, "no variant int4; use fp32, bf16, fp16, int8 or int8-bf16"),
        ({"device": "cuda"}, "not on cuda; give --device cpu"),
        ({"goal": "both"}, "no goal both; use throughput or latency"),
    ],
)
def test_what_there_is_none_of(model_path: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        OpenVinoEngine(model_path, **asked)


def test_a_missing_openvino_names_the_extra(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[openvino\]"):
        OpenVinoEngine(model_path)


def test_a_missing_model(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError):
        OpenVinoEngine(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"no model" * 99, b"", None], ids=["other", "empty", "cut"])
def test_a_damaged_model_is_one_line_and_no_chatter(
    content: bytes | None,
    model_path: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_path.read_bytes()[:20_000] if content is None else content)
    with pytest.raises(EngineError, match="cannot open the model|takes nothing") as caught:
        OpenVinoEngine(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


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


@pytest.mark.parametrize("n", [1, 9])
def test_a_failure_while_running_is_one_line_and_closes_the_engine(tmp_path: Path, n: int) -> None:
    crops = draw(9, 8, 8)
    sums = crops.sum(axis=(1, 2, 3), dtype=np.float32)
    with OpenVinoEngine(write_linear(tmp_path / "model.onnx", 21), threads=2, streams=2) as engine:
        assert np.allclose(engine.logits(crops), sums[:, None])
        with pytest.raises(EngineError, match="failed on crops") as caught:
            engine.logits(draw(n, 5, 5))
        assert "\n" not in str(caught.value)
        for infer in (engine.logits, engine._infer):  # the second as a thread that was waiting
            with pytest.raises(EngineError, match="closed; open it again"):
                infer(crops)


def test_another_number_of_classes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"gives logits f32 \[\?,20\], not"):
        OpenVinoEngine(write_linear(tmp_path / "model.onnx", 20))


class TestCache:
    def test_it_spares_the_second_compiling_and_changes_no_answer(
        self, model_path: Path, tmp_path: Path
    ) -> None:
        found = []
        for _ in range(2):
            with OpenVinoEngine(model_path, cache=tmp_path) as engine:
                found.append((engine.from_cache, engine.logits(draw(5))))
        assert [loaded for loaded, _ in found] == [False, True]
        assert np.array_equal(found[0][1], found[1][1])

    def test_a_flipped_bit_in_it_does_not_reach_the_answers(
        self, model_path: Path, tmp_path: Path
    ) -> None:
        with OpenVinoEngine(model_path, cache=tmp_path) as engine:
            expected = engine.logits(draw(5))
        (blob,) = tmp_path.glob("*/*.blob")
        content = bytearray(blob.read_bytes())
        blob.chmod(0o600)
        for position in range(len(content) // 4, len(content), 101):
            content[position] ^= 0x40
        blob.write_bytes(content)
        with OpenVinoEngine(model_path, cache=tmp_path) as engine:
            assert engine.from_cache is False
            assert np.array_equal(engine.logits(draw(5)), expected)

    def test_another_model_shape_or_option_is_another_entry(
        self, models: dict[str, Path], tmp_path: Path
    ) -> None:
        OpenVinoEngine(models["fp32"], cache=tmp_path, threads=1).close()
        OpenVinoEngine(models["int8"], cache=tmp_path, threads=1).close()
        OpenVinoEngine(models["fp32"], cache=tmp_path, threads=1, crops_per_request=3).close()
        OpenVinoEngine(models["fp32"], cache=tmp_path, threads=2, streams=1).close()
        assert len(list(tmp_path.iterdir())) == 4


def run_alone(program: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_its_table_of_variants_loads_no_openvino(tmp_path: Path) -> None:
    program = "import sys, cytodino.engines.openvino; print('openvino' in sys.modules)"
    assert run_alone(program, tmp_path).stdout == "False\n"


def test_it_reports_to_nobody_and_says_nothing(model_path: Path, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
import numpy as np
from cytodino.engines.openvino import OpenVinoEngine
with OpenVinoEngine(Path(sys.argv[1])) as engine:
    engine.logits(np.zeros((1, 8, 8, 3), dtype=np.uint8))
print(sorted(name for name in sys.modules if name.startswith("openvino") and "telemetry" in name))
"""
    done = run_alone(program, tmp_path, str(model_path))
    assert done.stdout == "['openvino.tools.ovc.telemetry_params', " + (
        "'openvino.tools.ovc.telemetry_stub', 'openvino.tools.ovc.telemetry_utils']\n"
    )
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_signal_after_engines_that_overlapped_finds_a_stack_to_run_on(
    model_path: Path, tmp_path: Path
) -> None:
    """Each Core sets up a signal stack where the CPU has AMX: the last puts back the first's."""
    program = """
import signal, sys
from pathlib import Path
from cytodino.engines.openvino import OpenVinoEngine
first, second = (OpenVinoEngine(Path(sys.argv[1]), threads=1) for _ in range(2))
first.close()
del first
second.close()
del second
signal.signal(signal.SIGTERM, lambda *given: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""
    assert run_alone(program, tmp_path, str(model_path)).stdout == "handled\n"


def test_a_telemetry_that_is_loaded_already_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = torch  # any module
    monkeypatch.setitem(sys.modules, "openvino_telemetry", loaded)
    openvino_library.import_openvino()
    assert sys.modules["openvino_telemetry"] is loaded
