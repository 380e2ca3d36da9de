import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cytodino.bundle.golden import Golden
from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.engines.selection import Target
from cytodino.engines.tuned import Configuration, find_choice
from cytodino.errors import EngineError, ParityError
from cytodino.limits import LIMITS
from cytodino.machine import describe_machine
from cytodino_bench import subjects, tune
from cytodino_bench.cli import main
from cytodino_bench.race import Race
from cytodino_bench.space import Candidate, default_candidate, expand
from cytodino_bench.tune import tune_bundle
from cytodino_bench.tune_report import TuneReport

CORES = 4
VARIANT_SPEED = {"int8": 100.0, "bf16": 60.0, "fp32": 20.0}


def true_speed(configuration: Configuration, batch: int) -> float:
    """Images/s that a configuration has on the machine that is made up here."""
    speed = VARIANT_SPEED[configuration.variant]
    if configuration.engine == "onnxruntime":
        speed *= 0.6
    speed *= 0.7 + 0.3 * (configuration.threads or CORES) / CORES
    speed *= {1: 0.8, 2: 0.95, 4: 1.0}[configuration.streams or 4]
    speed *= {1: 0.8, 2: 0.9, 4: 1.0, 8: 0.97}[configuration.crops_per_request or 4]
    return speed * batch / (batch + 1)


class Clock:
    """Time that passes only where something takes time, on a machine whose speed drifts."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    @property
    def pace(self) -> float:
        return 1.0 + 0.6 * np.sin(self.now / 7.0)


class TimedEngine(CheckedEngine):
    """Right answers, in the time that its configuration takes."""

    device = "cpu"

    def __init__(self, lab: "Lab", configuration: Configuration) -> None:
        self.name, self.variant = configuration.engine, configuration.variant
        self.lab, self.configuration = lab, configuration
        lab.clock.now += lab.opening
        lab.open += 1
        lab.most_open = max(lab.most_open, lab.open)

    def _infer(self, crops: np.ndarray) -> np.ndarray:
        clock = self.lab.clock
        clock.now += len(crops) / (true_speed(self.configuration, len(crops)) * clock.pace)
        logits = answer(crops)
        return -logits if self.lab.is_wrong(self.configuration) else logits

    def describe(self) -> EngineDescription:
        raise AssertionError("nobody asks")

    def _release(self) -> None:
        self.lab.open -= 1


def answer(crops: np.ndarray) -> np.ndarray:
    means = crops.reshape(len(crops), -1).mean(axis=1, dtype=np.float64)
    return np.cos(means[:, None] * np.arange(1, 22) / 7).astype(np.float32)


class Lab:
    """A bundle of three variants on two engines, on a machine of four cores."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.opening = 0.5
        self.open = self.most_open = 0
        self.opened: list[Configuration] = []
        self.broken: set[str] = set()
        self.is_wrong: Callable[[Configuration], bool] = lambda configuration: False
        self.path = path
        self.bundle = SimpleNamespace(
            path=path, sha256="c" * 64, manifest=SimpleNamespace(limits=LIMITS)
        )

    def open_configuration(
        self, _: object, configuration: Configuration, *, cache: Path | None
    ) -> TimedEngine:
        if configuration.variant in self.broken:
            raise EngineError(f"{configuration.variant} does not open")
        self.opened.append(configuration)
        return TimedEngine(self, configuration)

    def tune(self, **options: Any) -> TuneReport:
        return tune_bundle(self.path, clock=self.clock, **options)


def golden() -> Golden:
    crops = [np.full((5, 4, 3), mark, dtype=np.uint8) for mark in range(40)]
    reference = np.concatenate([answer(crop[None]) for crop in crops])
    return Golden(crops=crops, labels=None, ids=[], reference=reference, exported={})


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab(tmp_path)
    machine = describe_machine().model_copy(update={"cores": CORES})
    monkeypatch.setattr(tune, "open_bundle", lambda _: lab.bundle)
    monkeypatch.setattr(tune, "open_configuration", lab.open_configuration)
    monkeypatch.setattr(tune, "load_golden", lambda _: golden())
    monkeypatch.setattr("cytodino.bundle.golden.load_golden", lambda *_, **__: golden())
    monkeypatch.setattr(tune, "describe_machine", lambda: machine)
    monkeypatch.setattr("cytodino.engines.tuned.describe_machine", lambda: machine)
    monkeypatch.setattr("cytodino.engines.tuned.cache_folder", lambda: tmp_path / "cache")

    def found(engine: str = "auto") -> list[Target]:
        names = ("onnxruntime", "openvino") if engine == "auto" else (engine,)
        return [Target(name, "cpu", "CPU") for name in names]

    for module in (tune, subjects):
        monkeypatch.setattr(module, "targets_found", found)
    monkeypatch.setattr("cytodino.engines.tuned.targets_found", found)
    usable = {"openvino": ("fp32", "bf16", "int8"), "onnxruntime": ("fp32", "int8")}
    for module in ("cytodino_bench.subjects", "cytodino.engines.tuned"):
        monkeypatch.setattr(f"{module}.usable_here", lambda _b, engine, _p: usable[engine])
    monkeypatch.setattr(subjects, "why_unproven", lambda *_: None)
    return lab


def best_speed(report: TuneReport, lab: Lab) -> float:
    found = [
        Configuration(engine=engine, variant=variant)
        for engine, variants in (("openvino", ("fp32", "bf16", "int8")), ("onnxruntime", ("int8",)))
        for variant in variants
    ]
    return max(
        true_speed(one.configuration, one.batch_size)
        for subject in found
        for one in expand(subject, report.goal, CORES)
    )


@pytest.mark.parametrize("goal", ["throughput", "latency"])
def test_the_choice_is_near_the_best_there_is(lab: Lab, goal: str) -> None:
    report = lab.tune(goal=goal)
    chosen = report.choice
    found = true_speed(chosen.configuration, chosen.batch_size)
    assert found >= 0.95 * best_speed(report, lab)
    assert chosen.goal == goal
    assert chosen.golden_cells == 40
    if goal == "latency":
        assert chosen.batch_size == 1
        assert chosen.configuration.streams == 1


def test_the_search_ends_within_its_budget(lab: Lab) -> None:
    lab.opening = 20.0  # a large model
    report = lab.tune(budget=240.0)
    assert report.seconds < 300
    assert lab.clock.now < 300
    assert report.choice.configuration.variant == "int8"
    assert len(report.timed) < report.candidates


def test_far_variants_are_tried_once_and_near_ones_with_all_options(lab: Lab) -> None:
    report = lab.tune()
    by_variant: dict[tuple[str, str], int] = {}
    for one in report.timed:
        key = (one.configuration.engine, one.configuration.variant)
        by_variant[key] = by_variant.get(key, 0) + 1
    assert by_variant["openvino", "fp32"] == 1
    everything = expand(Configuration(engine="openvino", variant="int8"), "throughput", CORES)
    assert by_variant["openvino", "int8"] == len(everything)


def test_few_engines_are_open_at_a_time_and_none_in_the_end(lab: Lab) -> None:
    lab.tune()
    assert lab.most_open <= 7
    assert lab.open == 0


def test_the_choice_is_recorded_for_this_machine(lab: Lab) -> None:
    report = lab.tune()
    assert report.record is not None
    assert Path(report.record).is_file()
    assert find_choice(lab.bundle).choice == report.choice  # type: ignore[arg-type]  # a stand-in
    assert lab.tune().earlier == report.choice


def test_what_strays_is_refused_and_the_next_is_taken(lab: Lab) -> None:
    lab.is_wrong = lambda one: (one.engine, one.variant) == ("openvino", "int8")
    report = lab.tune()
    assert [one.configuration.variant for one in report.refused] == ["int8", "int8"]
    assert "a probability moved by" in report.refused[0].reason
    chosen = report.choice.configuration
    assert (chosen.engine, chosen.variant) in (("openvino", "bf16"), ("onnxruntime", "int8"))


def test_where_nothing_passes_nothing_is_recorded(lab: Lab) -> None:
    lab.is_wrong = lambda configuration: True
    with pytest.raises(ParityError, match="no configuration passes: a probability"):
        lab.tune()
    assert find_choice(lab.bundle).choice is None  # type: ignore[arg-type]  # a stand-in


def test_a_variant_that_does_not_open_is_left_out_aloud(lab: Lab) -> None:
    lab.broken = {"int8"}
    said: list[str] = []
    report = lab.tune(say=said.append)
    assert report.choice.configuration.variant == "bf16"
    assert any("int8 does not open" in line for line in said)


def test_where_nothing_opens_it_says_so(lab: Lab) -> None:
    lab.broken = set(VARIANT_SPEED)
    with pytest.raises(EngineError, match="no engine opens"):
        lab.tune()


def test_a_sweep_times_everything_and_the_earlier_choice(lab: Lab) -> None:
    lab.tune()
    report = lab.tune(exhaustive=True)
    assert report.budget_s is None
    assert len(report.timed) == report.candidates
    assert report.earlier_relative is not None
    assert report.earlier_relative >= 0.95
    chosen = report.choice
    assert true_speed(chosen.configuration, chosen.batch_size) >= 0.99 * best_speed(report, lab)


def test_a_cache_that_cannot_be_written_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tune, "record_choice", refuse)
    said: list[str] = []
    assert lab.tune(say=said.append).record is None
    assert any("Read-only file system" in line for line in said)


def test_ratios_take_out_a_machine_that_slows_down(lab: Lab) -> None:
    slow = Candidate(Configuration(engine="openvino", variant="bf16"), 16)
    fast = Candidate(Configuration(engine="openvino", variant="int8"), 16)
    crops = np.zeros((8, 4, 4, 3), dtype=np.uint8)
    with Race(
        lambda one: lab.open_configuration(None, one, cache=None),
        crops,
        deadline=1e9,
        clock=lab.clock,
    ) as race:
        order = race.run([slow, fast], rounds=20)
        records = race.records
    assert order == [fast, slow]
    assert records[fast].score / records[slow].score == pytest.approx(100 / 60, rel=0.1)
    assert max(records[fast].rates) > 1.3 * min(records[fast].rates)


def test_the_space_holds_what_each_engine_can_be_told() -> None:
    openvino = Configuration(engine="openvino", variant="int8")
    two = expand(openvino, "throughput", 2)
    assert {(one.configuration.threads, one.configuration.streams) for one in two} == {
        (2, 2),
        (2, 1),
    }
    assert {one.configuration.crops_per_request for one in two} == {1, 2, 4, 8}
    assert all(
        one.batch_size % (one.configuration.streams * one.configuration.crops_per_request) == 0
        for one in expand(openvino, "throughput", 12)
        if one.configuration.streams and one.configuration.crops_per_request
    )
    onnx = expand(Configuration(engine="onnxruntime", variant="int8"), "throughput", 4)
    assert {one.configuration.threads for one in onnx} == {4, 2}
    assert len(set(onnx)) == len(onnx) == 10
    cuda = Configuration(engine="onnxruntime", variant="fp16", device="cuda")
    assert {one.configuration for one in expand(cuda, "throughput", 8)} == {cuda}
    assert [one.batch_size for one in expand(cuda, "latency", 8)] == [1]


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
def test_what_stands_for_a_variant_takes_all_threads(cores: int) -> None:
    candidates = expand(Configuration(engine="openvino", variant="int8"), "throughput", cores)
    usual = default_candidate(candidates).configuration
    assert usual.threads == cores
    assert usual.crops_per_request == 4
    assert usual.streams == min(cores, 2) or cores == 3


def test_the_command_prints_the_choice_and_its_file(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = tune_bundle
    monkeypatch.setattr(
        tune, "tune_bundle", lambda path, **options: plain(path, clock=lab.clock, **options)
    )
    file = tmp_path / "tune.json"
    result = CliRunner().invoke(main, ["tune", str(tmp_path), "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "int8 on openvino" in result.stdout
    assert "chosen, passes on 40 golden cells" in result.stdout
    lines = result.stdout.strip().splitlines()
    assert lines[-1] == str(file)
    assert json.loads(Path(lines[-2]).read_text())["goal"] == "throughput"
    assert TuneReport.model_validate_json(file.read_text()).refused == ()
    assert "candidates, 3 rounds" in result.stderr
