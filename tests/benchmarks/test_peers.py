import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cytodino.bundle import Bundle, open_bundle
from cytodino.engines.tuned import Configuration
from cytodino.errors import EngineError
from cytodino.limits import LIMITS
from cytodino_bench import peer_preparation, peers, peers_job
from cytodino_bench.cli import main
from cytodino_bench.peer_kinds import PEERS, Peer
from cytodino_bench.peer_preparation import model_file, prepare
from cytodino_bench.peer_results import conclude, promised_ratios
from cytodino_bench.peers import measure_peers
from cytodino_bench.peers_report import PeerResult, PeersReport, draw_peers, print_peers
from tests.batch.tiny_bundle import reference_logits, write_bundle

REFERENCE = Peer("PyTorch eager fp32", "pytorch", "fp32")
FAST = Peer("onnxruntime static INT8", "onnxruntime", "int8", "onnxruntime static")
WRONG = Peer("OpenVINO NNCF", "openvino", "int8", "nncf")
CRASHING = Peer("optimum fp32", "optimum", "fp32", "plain")
UNMADE = Peer("optimum static INT8", "optimum", "int8", "optimum static")
ROUNDS = 4


def flat_crops(count: int) -> np.ndarray:
    colours = np.random.default_rng(1).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return np.tile(colours, (1, 6, 5, 1))  # (count, 6, 5, 3)


class FakeWorker:
    """Answers at once, and says that it took as long as its peer's speed means."""

    speeds = {REFERENCE.name: 10.0, FAST.name: 40.0, WRONG.name: 80.0}
    ours = 120.0
    turns: list[tuple[str, int, int]] = []
    closed: list[str] = []

    def __init__(self, peer: Peer, *, crops: Path, model: Path | None, **_: Any) -> None:
        if peer == CRASHING:
            raise EngineError("was ended by signal 11")
        self.peer, self.crops = peer, np.load(crops)
        self.model = model

    def logits(self, path: Path) -> None:
        logits = reference_logits(list(self.crops))
        np.save(path, -logits if self.peer == WRONG else logits)

    def time(self, first: int, count: int) -> float:
        if (self.peer.name, first) in self.deaths:
            raise EngineError("was ended by signal 9")
        self.turns.append((self.peer.name, first, count))
        return count / self.speeds.get(self.peer.name, self.ours)

    def close(self) -> None:
        self.closed.append(self.peer.name)

    deaths: set[tuple[str, int]] = set()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    monkeypatch.setattr(FakeWorker, "turns", [])
    monkeypatch.setattr(FakeWorker, "closed", [])
    monkeypatch.setattr(FakeWorker, "deaths", set())
    monkeypatch.setattr(peers, "Worker", FakeWorker)

    def prepare(_: Path, folder: Path, wanted: Any, say: Any) -> dict[str, str]:
        return {"optimum static": "killed for its memory"}

    monkeypatch.setattr(peers, "_prepare", prepare)

    def configurations(bundle: Bundle, say: Any) -> dict[Peer, Configuration]:
        one = Configuration(engine="openvino", variant="int8-bf16")
        return {Peer("CytoDINO openvino int8-bf16", "cytodino", "int8"): one}

    monkeypatch.setattr(peers, "_our_configurations", configurations)
    return FakeWorker


@pytest.fixture
def measure(tmp_path: Path, workers: type[FakeWorker], monkeypatch: pytest.MonkeyPatch) -> Any:
    bundle = write_bundle(tmp_path / "bundle")
    opened = open_bundle(bundle)
    limits = {"fp32": opened.manifest.limits["fp32"]}  # as of an export in FP32 alone
    alone = replace(opened, manifest=opened.manifest.model_copy(update={"limits": limits}))
    monkeypatch.setattr(peers, "open_bundle", lambda path: alone)
    crops = flat_crops(200)

    def run(*wanted: Peer, **options: Any) -> PeersReport:
        return measure_peers(
            tmp_path / "run",
            bundle,
            crops,
            tmp_path / "work",
            peers=wanted,
            rounds=ROUNDS,
            query=8,
            **options,
        )

    return run


def by_name(report: PeersReport) -> dict[str, PeerResult]:
    return {one.name: one for one in report.peers}


def test_figures_are_ratios_to_the_first_with_agreement_beside_each(measure: Any) -> None:
    found = by_name(measure(REFERENCE, FAST, WRONG))
    assert found[REFERENCE.name].ratio == pytest.approx(1.0)
    assert found[FAST.name].ratio == pytest.approx(4.0)
    assert found[FAST.name].images_per_second == pytest.approx(40.0)
    assert found[FAST.name].agreement == 1.0
    assert found[FAST.name].verdict == "passed"
    assert found[WRONG.name].verdict == "failed"
    assert found[WRONG.name].agreement < 0.5
    assert found["CytoDINO openvino int8-bf16"].ratio == pytest.approx(12.0)


def test_all_take_turns_on_the_same_crops(measure: Any, workers: type[FakeWorker]) -> None:
    measure(REFERENCE, FAST)
    rounds = [workers.turns[3 * n : 3 * n + 3] for n in range(ROUNDS + peers.WARM_UP)]
    for turn in rounds:
        assert len({name for name, _, _ in turn}) == 3
        assert len({(first, count) for _, first, count in turn}) == 1
    assert len({tuple(name for name, _, _ in turn) for turn in rounds}) > 1


def test_a_peer_that_fails_is_a_line_with_the_reason(
    measure: Any, workers: type[FakeWorker]
) -> None:
    said: list[str] = []
    workers.deaths = {(FAST.name, 8)}
    found = by_name(measure(REFERENCE, FAST, CRASHING, UNMADE, say=said.append))
    assert found[FAST.name].failure == "was ended by signal 9"
    assert found[CRASHING.name].failure == "was ended by signal 11"
    assert found[UNMADE.name].failure == "killed for its memory"
    assert found[CRASHING.name].ratio is None
    assert found["CytoDINO openvino int8-bf16"].ratio == pytest.approx(12.0)
    assert any("without optimum fp32" in line for line in said)


def test_all_processes_are_ended(measure: Any, workers: type[FakeWorker]) -> None:
    measure(REFERENCE, FAST)
    assert sorted(workers.closed) == sorted(
        [REFERENCE.name, FAST.name, "CytoDINO openvino int8-bf16"]
    )


def test_without_pytorch_there_is_nothing_to_measure_by(
    measure: Any, workers: type[FakeWorker]
) -> None:
    workers.deaths = {(REFERENCE.name, 0)}
    with pytest.raises(EngineError, match="PyTorch eager fp32 does not run: was ended"):
        measure(REFERENCE, FAST)


def result(
    name: str, ratio: float | None, verdict: str = "passed", library: str = ""
) -> PeerResult:
    return PeerResult(
        name=name,
        library="cytodino" if name.startswith("CytoDINO") else "openvino",
        precision="int8",
        failure=None if ratio else "died",
        ratio=ratio,
        ratio_low=ratio,
        ratio_high=ratio,
        images_per_second=ratio,
        agreement=ratio and 0.99,
        probability_max=ratio and 0.01,
        margin_flipped=ratio and 0.02,
        verdict=verdict if ratio else None,  # type: ignore[arg-type]  # pydantic checks it
    )


def test_the_promised_ratios_are_those_of_what_passes() -> None:
    found = promised_ratios(
        [
            result("PyTorch eager fp32", 1.0),
            result("PyTorch eager fp32 as trained", 0.5),
            result("PyTorch eager bf16", 3.0),
            result("OpenVINO NNCF", 6.0, "failed"),
            result("OpenVINO NNCF THROUGHPUT", 8.0, "failed"),
            result("OpenVINO NNCF THROUGHPUT, static", 10.0, "failed"),
            result("OpenVINO THROUGHPUT", 5.0),
            result("onnxruntime fp32", 2.0),
            result("optimum dynamic INT8", 4.0),
            result("onnxruntime static INT8", None),
            result("CytoDINO openvino int8-bf16", 12.0, "failed"),
            result("CytoDINO openvino int8", 10.0),
            result("CytoDINO onnxruntime fp32", 2.5),
            result("CytoDINO onnxruntime int8", 5.0),
        ]
    )
    assert found == {
        "best that passes, by PyTorch eager fp32": 10.0,
        "best that passes, by PyTorch eager fp32 as trained, its adapter not merged": 20.0,
        "best that passes, by the best peer that passes": 2.0,
        "best that passes, by OpenVINO and NNCF, default or THROUGHPUT": 1.25,
        "best that passes, by OpenVINO and NNCF, its batch fixed too": 1.0,
        "best that passes, by the best of optimum and onnxruntime": 2.5,
        "onnxruntime fp32, by the plain export's": 1.25,
        "onnxruntime INT8, by the best made from the plain export": 1.25,
    }


def test_a_peers_figures_are_medians_and_quartiles_over_the_rounds() -> None:
    seconds = {REFERENCE.name: [1.0] * 5, FAST.name: [0.5, 0.25, 0.1, 1.0, 0.125]}
    logits = dict.fromkeys(seconds, reference_logits(list(flat_crops(4))))
    found = conclude(FAST, {}, logits, seconds, REFERENCE.name, 8, LIMITS)
    assert (found.ratio_low, found.ratio, found.ratio_high) == (2.0, 4.0, 8.0)
    assert found.images_per_second == 8 / 0.25


@pytest.mark.parametrize(
    ("variant", "precision"),
    [("fp32", "fp32"), ("bf16", "bf16"), ("fp16", "fp16"), ("int8", "int8"), ("int8-bf16", "int8")],
)
def test_ours_are_judged_by_their_own_limits(variant: str, precision: str) -> None:
    one = Configuration(engine="openvino", variant=variant)
    assert peers._ours(one, "ours").precision == precision


def test_what_is_unproven_is_no_pass_of_ours() -> None:
    peer = result("PyTorch eager fp32", 1.0)
    assert promised_ratios([peer, result("CytoDINO openvino int8", 10.0, "unproven")]) == {}


def test_a_ratio_of_what_failed_is_left_out() -> None:
    assert promised_ratios([result("CytoDINO openvino int8", 10.0), result("optimum", None)]) == {}


def test_the_table_and_the_chart_show_what_was_found(
    measure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    report = measure(REFERENCE, FAST, WRONG, CRASHING)
    print_peers(report)
    printed = capsys.readouterr().out
    for words in ("12.00", "was ended by signal 11", "failed (int8)", "by PyTorch eager fp32: 12"):
        assert words in printed
    svg = draw_peers(report).svg()
    assert svg.index("CytoDINO openvino") < svg.index("OpenVINO NNCF") < svg.index("static INT8")
    assert "8.00 x, fails parity" in svg
    assert "optimum fp32" not in svg


def test_names_tell_peers_apart_and_all_that_need_a_file_name_it() -> None:
    names = [one.name for one in PEERS]
    assert len(set(names)) == len(names)
    assert all((one.library == "pytorch") == (one.needs is None) for one in PEERS)


def test_preparations_that_fail_are_kept_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run_child(_: str, preparation: str, *__: str) -> str | None:
        ran.append(preparation)
        return "nncf is not installed" if preparation == "nncf" else None

    monkeypatch.setattr(peers, "_run_child", run_child)
    found = peers._prepare(tmp_path, tmp_path, [REFERENCE, WRONG, CRASHING], lambda text: None)
    assert ran == ["plain", "nncf"]
    assert found == {"nncf": "nncf is not installed"}


def test_without_the_plain_export_nothing_is_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_run_child", lambda *_: "out of memory")
    found = peers._prepare(tmp_path, tmp_path, [REFERENCE, WRONG], lambda text: None)
    assert found == {"plain": "out of memory", "nncf": "out of memory"}


def test_a_preparation_that_ends_midway_leaves_nothing_to_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(source: Path, target: Path, crops: Any) -> None:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setitem(peer_preparation._MAKERS, "nncf", write_half)
    crops = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    with pytest.raises(KeyboardInterrupt):
        prepare("nncf", tmp_path, tmp_path, crops)
    assert not model_file(tmp_path, "nncf").exists()

    def write_whole(source: Path, target: Path, crops: Any) -> None:
        target.write_bytes(b"whole")

    monkeypatch.setitem(peer_preparation._MAKERS, "nncf", write_whole)
    prepare("nncf", tmp_path, tmp_path, crops)
    assert model_file(tmp_path, "nncf").read_bytes() == b"whole"


def test_a_child_that_fails_says_why() -> None:
    assert peers._run_child("cytodino_bench.no_such_module") is not None
    assert peers._run_child("cytodino_bench.charts") is None


def test_what_passed_is_ours_to_measure(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = open_bundle(write_bundle(tmp_path / "bundle"))
    found = peers._our_configurations(bundle, lambda text: None)
    assert {peer.name: one.variant for peer, one in found.items()} == {
        "CytoDINO onnxruntime fp32": "fp32"
    }


def test_the_command_writes_json_and_chart(
    measure: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = measure(REFERENCE, FAST)
    monkeypatch.setattr("cytodino_bench.peers_job.run_peers", lambda *_, **__: report)
    file, chart = tmp_path / "peers.json", tmp_path / "peers.svg"
    done = CliRunner().invoke(
        main, ["peers", str(tmp_path), "--json", str(file), "--chart", str(chart)]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(file.read_text())["must_show"]
    assert chart.read_text().startswith("<svg")


@pytest.mark.parametrize("lora", [None, "rank 4"])
def test_as_trained_is_measured_where_there_is_an_adapter(
    measure: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lora: str | None
) -> None:
    report, measured = measure(REFERENCE, FAST), []

    def measure_peers(*_: object, peers: list[Peer], **__: object) -> PeersReport:
        measured.extend(peers)
        return report

    run = SimpleNamespace(manifest=SimpleNamespace(lora=lora))
    monkeypatch.setattr(peers_job, "open_run", lambda _: run)
    monkeypatch.setattr(peers_job, "require_its_run", lambda *_: "e" * 64)
    monkeypatch.setattr(peers_job, "measure_peers", measure_peers)
    (tmp_path / "run.json").write_text("{}")
    peers_job.run_peers(tmp_path, bundle=tmp_path / "bundle", batch_size=1)
    assert len(measured) == len(PEERS) - (lora is None)
    assert any(one.adapted for one in measured) == (lora is not None)


def test_a_query_is_made_of_whole_batches(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["peers", str(tmp_path), "--query", "12", "--batch-size", "8"])
    assert done.exit_code == 2
    assert "multiple of --batch-size" in done.stderr
