from pathlib import Path
from types import SimpleNamespace

import pytest

from cytodino.engines.tuned import Configuration
from cytodino.errors import EngineError, InputError, MissingExtraError
from cytodino_bench import latency, subjects
from cytodino_bench.latency import WARM_UP_CALLS, measure_latency
from cytodino_bench.latency_report import summarise
from tests.batch.tiny_bundle import write_bundle
from tests.benchmarks.latency_bench import START, Bench, MeanEngine, targets


def test_every_variant_is_timed_in_both_scenarios(bench: Bench) -> None:
    report = measure_latency(bench.path, batch_sizes=(2, 4), rounds=12)

    names = [(one.description.engine, one.description.variant) for one in report.loaded]
    assert names == [("onnxruntime", "fp32")] * 2 + [("onnxruntime", "int8")] * 2
    single = [("single stream", 1, 12 * latency.QUERIES_A_ROUND)]
    both = [("offline", 2, 12), ("offline", 4, 12)]
    for one, expected in zip(report.loaded, [single, both] * 2, strict=True):
        assert [(t.scenario, t.batch_size, len(t.calls_ms)) for t in one.timings] == expected
        for timing in one.timings:
            assert 0 < min(timing.calls_ms) <= timing.p50_ms <= max(timing.calls_ms)
        assert one.start == START
    assert report.crop_size == (5, 4)
    assert report.crops == 10
    assert report.bundle_sha256 == "c" * 64
    assert all(not engine.open for engine in bench.engines)


def test_one_scenario_alone_can_be_asked_for(bench: Bench) -> None:
    report = measure_latency(bench.path, scenarios=("single stream",), rounds=1)
    assert [[t.scenario for t in one.timings] for one in report.loaded] == [["single stream"]] * 2
    assert bench.started[0][1] == 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_on_the_cpu_an_engine_is_opened_for_each_scenario_as_suits_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(
        latency,
        "find_subjects",
        lambda *_, **__: [Configuration(engine=engine, variant="int8")],
    )
    report = measure_latency(bench.path, batch_sizes=(8,), rounds=1)
    assert [(found.goal, size) for found, size in bench.started] == [
        ("latency", 1),
        ("throughput", 8),
    ]
    assert [[t.batch_size for t in one.timings] for one in report.loaded] == [[1], [8]]


def test_combinations_take_turns_on_the_same_crops(bench: Bench) -> None:
    rounds = 6
    measure_latency(bench.path, scenarios=("offline",), batch_sizes=(1, 4), rounds=rounds)

    turns = [bench.calls[4 * turn : 4 * turn + 4] for turn in range(rounds + WARM_UP_CALLS)]
    orders = set()
    for turn in turns:
        assert sorted((variant, len(marks)) for _, variant, marks in turn) == [
            ("fp32", 1),
            ("fp32", 4),
            ("int8", 1),
            ("int8", 4),
        ]
        orders.add(tuple((variant, len(marks)) for _, variant, marks in turn))
        marks = {(variant, len(m)): tuple(m) for _, variant, m in turn}
        assert marks["fp32", 1] == marks["int8", 1]
        assert marks["fp32", 4] == marks["int8", 4]
    assert len(orders) > 1
    assert len({tuple(m) for _, variant, m in bench.calls if len(m) == 1}) > 4


def test_a_batch_larger_than_the_crops_repeats_them(bench: Bench) -> None:
    measure_latency(bench.path, batch_sizes=(25,), rounds=1)
    marks = next(marks for _, _, marks in bench.calls if len(marks) == 25)
    assert sorted(set(marks)) == list(range(10))


def test_parity_stands_beside_the_speed(bench: Bench) -> None:
    bench.wrong_variant = "int8"

    found = measure_latency(bench.path, scenarios=("offline",), batch_sizes=(1,), rounds=1)
    right, wrong = found.loaded

    assert (right.agreement, right.parity_n, right.verdict) == (1.0, 11, "unproven")
    assert right.probability_max < 1e-6
    assert wrong.agreement < 0.5
    assert wrong.verdict == "failed"


def test_auto_leaves_out_pytorch_without_its_run_and_says_so(bench: Bench) -> None:
    said: list[str] = []
    report = measure_latency(bench.path, batch_sizes=(1,), rounds=1, say=said.append)
    assert {one.description.engine for one in report.loaded} == {"onnxruntime"}
    assert "without pytorch" in " ".join(said)
    assert "--reference RUN" in " ".join(said)


def test_pytorch_is_timed_where_the_run_is_given(bench: Bench) -> None:
    report = measure_latency(
        bench.path, engines=("pytorch",), reference=Path("run"), batch_sizes=(1,), rounds=1
    )
    names = [(one.description.engine, one.description.variant) for one in report.loaded]
    assert names == [("pytorch", "fp32")]


def test_a_run_that_is_not_the_bundles_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = write_bundle(tmp_path / "bundle", run="e" * 64)
    other = tmp_path / "other"
    other.mkdir()
    (other / "run.json").write_text("{}")
    with pytest.raises(InputError, match="not the run that the bundle was exported from"):
        measure_latency(bundle, reference=other, rounds=1)


def test_a_gpu_that_cannot_be_used_is_said_to_be_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: str) -> None:
        raise EngineError(f"this onnxruntime has no {device}")

    monkeypatch.setattr(subjects, "require_device", refuse)
    with pytest.raises(EngineError, match="has no cuda"):
        measure_latency(bench.path, device="cuda")


def test_an_engine_that_was_named_has_to_be_had(bench: Bench) -> None:
    with pytest.raises(EngineError, match="--reference RUN"):
        measure_latency(bench.path, engines=("pytorch",))


def test_pytorch_that_is_not_installed_names_the_extra(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cytodino.engines.pytorch", None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[train\]"):
        measure_latency(bench.path, engines=("pytorch",), reference=Path("run"))


def test_a_bundle_of_which_nothing_passed_is_not_timed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "usable_here", lambda *_: ())
    with pytest.raises(EngineError, match="no variant asked for has passed"):
        measure_latency(bench.path, device="cpu")


def test_a_device_that_does_not_open_is_left_out_aloud_unless_it_was_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "targets_found", targets("cuda", "cpu"))
    said: list[str] = []

    report = measure_latency(bench.path, batch_sizes=(1,), rounds=1, say=said.append)

    assert [one.description.device for one in report.loaded] == ["cpu"] * 4
    assert "without fp32 on onnxruntime (cuda): CUDA does not load" in said
    with pytest.raises(EngineError, match="CUDA does not load"):
        measure_latency(bench.path, device="cuda")


def test_what_an_engine_warns_of_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MeanEngine.describe
    monkeypatch.setattr(
        MeanEngine,
        "describe",
        lambda self: plain(self).model_copy(update={"warnings": ("two wheels",)}),
    )
    said: list[str] = []
    measure_latency(bench.path, batch_sizes=(1,), rounds=1, say=said.append)
    assert said.count("warning: two wheels") == 4


def test_a_busy_machine_is_said_and_recorded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("os.getloadavg", lambda: (1e4, 0.0, 0.0))
    report = measure_latency(bench.path, batch_sizes=(1,), rounds=1, say=said.append)
    assert "the machine is busy (load 10000.0" in said[0]
    assert report.load_average == 1e4


def test_a_system_without_a_load_average_is_measured_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.getloadavg")
    report = measure_latency(bench.path, batch_sizes=(1,), rounds=1)
    assert report.load_average is None


def test_energy_is_counted_where_the_machine_tells(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meter:
        sources = ("package-0",)
        readings = iter(range(0, 10**6, 8))

        def joules(self) -> float:
            return float(next(self.readings))

    monkeypatch.setattr(latency, "EnergyMeter", Meter)
    report = measure_latency(bench.path, batch_sizes=(4,), rounds=3)
    assert report.energy_sources == ("package-0",)
    timings = [timing for one in report.loaded[:2] for timing in one.timings]
    assert [timing.joules_a_crop for timing in timings] == [8.0, 2.0]


def test_a_machine_that_tells_of_no_energy_is_measured_without(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = SimpleNamespace(sources=(), joules=lambda: None)
    monkeypatch.setattr(latency, "EnergyMeter", lambda: meter)
    report = measure_latency(bench.path, batch_sizes=(4,), rounds=1)
    assert report.loaded[0].timings[0].joules_a_crop is None


def test_percentiles_worked_by_hand() -> None:
    seconds = [0.010] * 50 + [0.020] * 45 + [0.100] * 5

    timing = summarise("offline", 8, seconds, joules=1600.0)

    assert timing.p50_ms == pytest.approx(15)  # halfway between the 50th and the 51st
    assert timing.p90_ms == pytest.approx(20)
    assert timing.p99_ms == pytest.approx(100)
    assert timing.spread == pytest.approx((20 - 10) / 15)
    assert timing.images_per_second == pytest.approx(8 * 100 / (0.5 + 0.9 + 0.5))
    assert timing.joules_a_crop == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("calls", "p90", "p99"), [(9, False, False), (10, True, False), (100, True, True)]
)
def test_percentiles_that_the_calls_cannot_show_are_left_out(
    calls: int, p90: bool, p99: bool
) -> None:
    timing = summarise("single stream", 1, [0.01] * calls)
    assert (timing.p90_ms is not None, timing.p99_ms is not None) == (p90, p99)
