import subprocess
import sys
from pathlib import Path

import pytest

from cytodino.bundle import open_bundle
from cytodino.engines.tuned import Configuration
from cytodino.errors import EngineError
from cytodino_bench import cold_start
from cytodino_bench.cold_start import measure_cold_start, peak_memory
from tests.batch.tiny_bundle import write_bundle


def test_an_engine_that_keeps_what_it_compiled_is_started_twice(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    bundle = open_bundle(write_bundle(tmp_path / "bundle"))
    wanted = Configuration(engine="openvino", variant="fp32", streams=1, crops_per_request=2)

    found = measure_cold_start(bundle, wanted, batch_size=3, crop_size=(5, 7))

    assert 0 < found.load_s < found.first_result_s
    assert found.load_again_s is not None
    assert found.first_result_again_s is not None
    assert 0 < found.load_again_s < found.first_result_again_s


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = open_bundle(write_bundle(tmp_path / "bundle"))
    (bundle.path / "model.fp32.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match="onnxruntime.*cannot open the model"):
        measure_cold_start(
            bundle,
            Configuration(engine="onnxruntime", variant="fp32"),
            batch_size=1,
            crop_size=(5, 7),
        )


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path / "bundle"))
    with pytest.raises(EngineError, match="did not answer within 0.001 s"):
        measure_cold_start(
            bundle,
            Configuration(engine="onnxruntime", variant="fp32"),
            batch_size=1,
            crop_size=(5, 7),
            timeout=0.001,
        )


GROWTH = """
from cytodino_bench.cold_start import peak_memory
before = peak_memory()
held = b"x" * (64 << 20)
print(-1 if before is None else peak_memory() - before)
"""


def test_memory_that_was_held_is_told() -> None:
    told = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, check=True)
    growth = int(told.stdout)
    if growth < 0:
        pytest.skip("the system does not tell")
    assert 60 << 20 < growth < 80 << 20


def test_a_system_without_that_file_is_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_start, "_peak_by_getrusage", lambda: 7)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "Name:\tpython\n")
    assert peak_memory() == 7
