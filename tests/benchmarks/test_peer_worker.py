from pathlib import Path

import numpy as np
import pytest

from cytodino.engines.tuned import Configuration
from cytodino.errors import EngineError
from cytodino_bench.peer_kinds import PEERS, Peer
from cytodino_bench.peer_models import open_peer
from cytodino_bench.peer_worker import Worker, quiet_environment
from tests.batch.tiny_bundle import reference_logits, write_bundle

pytest.importorskip("onnxruntime")

PLAIN = Peer("onnxruntime fp32", "onnxruntime", "fp32", "plain")
OURS = Peer("CytoDINO onnxruntime fp32", "cytodino", "fp32")


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    crops = np.random.default_rng(3).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "crops.npy", crops)
    return tmp_path / "crops.npy"


def open_worker(peer: Peer, tmp_path: Path, crops: Path, **changes: object) -> Worker:
    bundle = tmp_path / "bundle"
    if not bundle.exists():
        write_bundle(bundle)
    options: dict[str, object] = {
        "run": tmp_path,
        "model": bundle / "model.fp32.onnx",
        "crops": crops,
        "batch_size": 4,
        "bundle": bundle,
        "configuration": Configuration(engine="onnxruntime", variant="fp32"),
    }
    return Worker(peer, **(options | changes))  # type: ignore[arg-type]  # named one by one above


@pytest.mark.parametrize("peer", [PLAIN, OURS], ids=["plain", "ours"])
def test_a_worker_answers_and_tells_its_time(tmp_path: Path, crops: Path, peer: Peer) -> None:
    worker = open_worker(peer, tmp_path, crops)
    try:
        worker.logits(tmp_path / "logits.npy")
        assert 0 < worker.time(first=10, count=8) < 60
    finally:
        worker.close()
    found = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(found, reference_logits(list(np.load(crops))), atol=1e-3)


@pytest.mark.parametrize(
    "peer", [one for one in PEERS if one.library == "openvino"], ids=lambda one: one.name
)
def test_openvino_answers_each_crop_in_its_place(tmp_path: Path, peer: Peer) -> None:
    pytest.importorskip("openvino")
    model = write_bundle(tmp_path / "bundle") / "model.fp32.onnx"
    crops = np.arange(0, 240, 20, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 6, 5, 3), dtype=np.uint8
    )  # (12, 6, 5, 3), each of a grey of its own
    found = open_peer(peer, run=tmp_path, model=model, batch_size=4)(crops)
    expected = reference_logits(list(crops))
    rounding = 0.02 * np.ptp(expected)  # bf16, where the CPU has it
    assert np.abs(np.diff(expected, axis=0)).max(axis=1).min() > 2 * rounding
    np.testing.assert_allclose(found, expected, atol=rounding)


def test_a_peer_that_does_not_open_says_why(tmp_path: Path, crops: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match="INVALID_PROTOBUF"):
        open_worker(PLAIN, tmp_path, crops, model=tmp_path / "broken.onnx")


def test_a_peer_that_is_killed_is_an_error_and_not_the_end(tmp_path: Path, crops: Path) -> None:
    worker = open_worker(PLAIN, tmp_path, crops)
    worker._process.kill()
    with pytest.raises(EngineError, match="ended by signal 9"):
        worker.time(0, 4)
    worker.close()
    worker.close()


def test_a_peer_that_does_not_answer_is_given_up(tmp_path: Path, crops: Path) -> None:
    with pytest.raises(EngineError, match="gave no answer within 0.01 s"):
        open_worker(PLAIN, tmp_path, crops, timeout=0.01)


def test_children_get_all_threads_and_report_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = quiet_environment()
    assert "OMP_NUM_THREADS" not in found
    assert found["NNCF_CI"] == "1"
