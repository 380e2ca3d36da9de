"""Latency and throughput of a bundle on this machine: engines, variants, batch sizes, by turns.

What is timed is one call, from pixels in memory to logits in memory; reading and decoding are
not. All combinations stay open and take turns in an order that is shuffled anew each round, so
that a slow minute of the machine falls on all of them. Memory and start are measured before, each
engine in a process of its own.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytodino.bundle import Bundle, open_bundle
from cytodino.bundle.golden import check_golden, load_golden
from cytodino.engines import Engine
from cytodino.engines.tuned import Configuration
from cytodino.errors import EngineError
from cytodino.machine import describe_machine
from cytodino_bench.cold_start import ColdStart, measure_cold_start
from cytodino_bench.energy import EnergyMeter
from cytodino_bench.latency_report import (
    OFFLINE,
    SINGLE_STREAM,
    LatencyReport,
    Loaded,
    Scenario,
    summarise,
)
from cytodino_bench.subjects import find_subjects, open_subject

__all__ = ["load_average", "measure_latency", "most_frequent_size"]

WARM_UP_CALLS = 3
"""Untimed calls of each combination: the first allocates, the next still find cold caches."""

QUERIES_A_ROUND = 4
"""Single-stream queries in a turn: of one crop each, they cost little and steady the tail."""

PARITY_BATCH = 8
"""Crops in one call of the golden check, as in the gate; one at a time in single stream."""


@dataclass
class _Case:
    """One scenario at one batch size."""

    scenario: Scenario
    batch_size: int
    calls: list[float] = field(default_factory=list)
    """Seconds of each timed call."""
    joules: float = 0.0

    @property
    def calls_a_round(self) -> int:
        return QUERIES_A_ROUND if self.scenario == SINGLE_STREAM else 1


@dataclass
class _Open:
    engine: Engine
    start: ColdStart
    cases: list[_Case]


def measure_latency(
    bundle_path: Path,
    *,
    engines: Sequence[str] = ("auto",),
    variants: Sequence[str] = ("auto",),
    reference: Path | None = None,
    device: str = "auto",
    scenarios: Sequence[Scenario] = (SINGLE_STREAM, OFFLINE),
    batch_sizes: Sequence[int] = (8, 32),
    rounds: int = 30,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int], None] | None = None,
) -> LatencyReport:
    """Time a bundle's golden crops on this machine.

    Parameters
    ----------
    bundle_path : Path
    engines : sequence of {"auto", "onnxruntime", "openvino", "pytorch"}
        auto takes every engine that can be opened here.
    variants : sequence of str
        auto takes every variant that passed.
    reference : Path, optional
        The bundle's run, for the engine pytorch.
    device : {"auto", "cpu", "cuda"}
    scenarios : sequence of {"single stream", "offline"}
    batch_sizes : sequence of int
        Crops in one offline call.
    rounds : int
        Turns of each combination; a turn is one offline call or a few single-stream queries.
    say : callable, optional
        Takes sentences for the person who waits.
    progress : callable, optional
        Called after each turn with the number of all turns.

    Raises
    ------
    BundleError
        If the bundle is damaged.
    EngineError
        If an engine that was named cannot be had, no variant is usable, or a call fails.
    """
    bundle = open_bundle(bundle_path)
    crops = most_frequent_size(load_golden(bundle).crops)
    machine, load = describe_machine(), load_average()
    if load is not None and load > machine.cores / 2:
        say(
            f"warning: the machine is busy (load {load:.1f} on {machine.cores} cores), "
            "and so are the times"
        )
    subjects = find_subjects(
        bundle, engines=engines, variants=variants, device=device, reference=reference, say=say
    )
    planned = [pair for one in subjects for pair in _plan(one, scenarios, batch_sizes)]
    meter = EnergyMeter()
    with ExitStack() as stack:
        opened = _open_all(stack, bundle, planned, reference, device, crops, say)
        say(f"{len(opened)} engines open, {rounds} rounds by turns")
        _time_rounds(opened, crops, rounds, meter, progress)
        say("comparing golden cells")
        loaded = tuple(_conclude(bundle, one, meter) for one in opened)
    return LatencyReport(
        bundle=str(bundle_path),
        bundle_sha256=bundle.sha256,
        machine=machine,
        load_average=load,
        energy_sources=tuple(meter.sources),
        crop_size=crops.shape[1:3],
        crops=len(crops),
        rounds=rounds,
        warm_up_calls=WARM_UP_CALLS,
        loaded=loaded,
    )


def most_frequent_size(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Stack the crops of the most frequent size, uint8 (n, h, w, 3)."""
    (shape, _), *_ = Counter(crop.shape for crop in crops).most_common(1)
    return np.stack([crop for crop in crops if crop.shape == shape])  # (n, h, w, 3)


def load_average() -> float | None:
    """Return how many processes ran or waited in the last minute, None where nothing says."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return None


def _plan(
    subject: Configuration, scenarios: Sequence[Scenario], batch_sizes: Sequence[int]
) -> list[tuple[Configuration, list[_Case]]]:
    """Say how a subject is opened: on the CPU for each scenario as suits it, else once for both."""
    single = [_Case(SINGLE_STREAM, 1)] if SINGLE_STREAM in scenarios else []
    offline = [_Case(OFFLINE, size) for size in batch_sizes] if OFFLINE in scenarios else []
    if subject.engine == "pytorch" or subject.device == "cuda":
        return [(subject, single + offline)]
    goals = ((subject.model_copy(update={"goal": "latency"}), single), (subject, offline))
    return [(configuration, cases) for configuration, cases in goals if cases]


def _open_all(
    stack: ExitStack,
    bundle: Bundle,
    planned: Sequence[tuple[Configuration, list[_Case]]],
    reference: Path | None,
    device: str,
    crops: NDArray[np.uint8],
    say: Callable[[str], None],
) -> list[_Open]:
    """Measure each start in a process of its own, then open everything in this one."""
    height, width = crops.shape[1:3]
    opened = []
    for configuration, cases in planned:
        say(f"starting {configuration.sentence()}, {cases[0].scenario}")
        try:
            start = measure_cold_start(
                bundle,
                configuration,
                batch_size=max(case.batch_size for case in cases),
                crop_size=(height, width),
                reference=reference,
            )
            engine = stack.enter_context(open_subject(bundle, configuration, reference=reference))
        except EngineError as error:
            if device != "auto":
                raise
            say(f"without {configuration.sentence()}: {error}")
            continue
        opened.append(_Open(engine, start, cases))
        for warning in engine.describe().warnings:
            say(f"warning: {warning}")
    if not opened:
        raise EngineError(
            "nothing can be measured: no engine opens here",
            where=bundle.path,
            mend="run cytodino-export verify on this machine, or export the run again",
        )
    return opened


def _time_rounds(
    opened: Sequence[_Open],
    crops: NDArray[np.uint8],
    rounds: int,
    meter: EnergyMeter,
    progress: Callable[[int], None] | None,
) -> None:
    pairs = [(one.engine, case) for one in opened for case in one.cases]
    total = len(pairs) * (rounds + WARM_UP_CALLS)
    shuffle = np.random.default_rng(0)
    for number in range(-WARM_UP_CALLS, rounds):
        for index in shuffle.permutation(len(pairs)):
            engine, case = pairs[index]
            for query in range(case.calls_a_round if number >= 0 else 1):
                # Other crops each time, the same for every engine: none has the easier cells.
                first = (number * case.calls_a_round + query) * case.batch_size
                batch = crops[(np.arange(case.batch_size) + first) % len(crops)]  # (size, h, w, 3)
                _time_call(engine, case, batch, meter, counts=number >= 0)
            if progress is not None:
                progress(total)


def _time_call(
    engine: Engine, case: _Case, batch: NDArray[np.uint8], meter: EnergyMeter, *, counts: bool
) -> None:
    before = meter.joules()
    started = time.perf_counter()
    engine.logits(batch)
    seconds = time.perf_counter() - started
    after = meter.joules()
    if counts:
        case.calls.append(seconds)
        case.joules += (after or 0.0) - (before or 0.0)


def _conclude(bundle: Bundle, one: _Open, meter: EnergyMeter) -> Loaded:
    alone = all(case.batch_size == 1 for case in one.cases)
    parity = check_golden(bundle, one.engine, batch_size=1 if alone else PARITY_BATCH)
    return Loaded(
        description=one.engine.describe(),
        start=one.start,
        parity_n=parity.n,
        agreement=parity.agreement,
        probability_max=parity.probability_max,
        verdict=parity.verdict,
        timings=tuple(
            summarise(
                case.scenario,
                case.batch_size,
                case.calls,
                case.joules if meter.sources else None,
            )
            for case in one.cases
        ),
    )
