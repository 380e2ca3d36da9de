"""Latency of a bundle on this machine: every usable variant, engine and batch size, by turns.

What is timed is one call, from pixels in memory to logits in memory; reading and decoding are
not. All combinations stay open and take turns in an order that is shuffled anew each round, so
that a slow minute of the machine falls on all of them.
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
from pydantic import BaseModel, ConfigDict

from cytodino.bundle import Bundle, open_bundle
from cytodino.bundle.golden import check_golden, load_golden
from cytodino.bundle.verdicts import usable_here
from cytodino.engines import Engine, EngineDescription, open_engine
from cytodino.errors import EngineError, InputError, MissingExtraError
from cytodino.machine import Machine, describe_machine

__all__ = ["LatencyReport", "Loaded", "Timing", "measure_latency", "write_json"]

WARM_UP_CALLS = 3
"""Untimed calls of each combination: the first allocates, the next still find cold caches."""

ROUNDS_FOR_P90 = 10
ROUNDS_FOR_P99 = 100
"""With fewer calls a percentile is only the slowest of them under another name."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Timing(_Record):
    """One engine and variant at one batch size."""

    batch_size: int
    p50_ms: float
    """Milliseconds a call, as are the others."""
    p90_ms: float | None
    """None below 10 rounds."""
    p99_ms: float | None
    """None below 100 rounds."""
    images_per_second: float
    """Crops of all timed calls over their time."""
    calls_ms: tuple[float, ...]
    """Every timed call, in order."""


class Loaded(_Record):
    """One engine and variant: what it is, how soon it answers, how right, and how fast."""

    description: EngineDescription
    load_s: float
    """Opening the model; the libraries were imported before."""
    first_result_s: float
    """From the start of opening to the first crop's logits."""
    parity_n: int
    """Golden cells that were compared."""
    agreement: float
    """Share of them given the PyTorch model's class, 0 to 1."""
    probability_max: float
    """Largest change of any probability on them, 0 to 1."""
    verdict: str
    """passed, failed or unproven, by the bundle's limits."""
    timings: tuple[Timing, ...]


class LatencyReport(_Record):
    """What `cytodino-bench latency` measured."""

    bundle: str
    bundle_sha256: str
    machine: Machine
    crop_size: tuple[int, int]
    """Height and width of the timed crops, px: the most frequent size among the golden cells."""
    crops: int
    """How many different crops took part; larger batches repeat them."""
    rounds: int
    warm_up_calls: int
    loaded: tuple[Loaded, ...]


@dataclass
class _Open:
    engine: Engine
    load_s: float
    first_result_s: float
    calls: dict[int, list[float]] = field(default_factory=dict)
    """Seconds of each timed call, by batch size."""


def measure_latency(
    bundle_path: Path,
    *,
    engines: Sequence[str] = ("auto",),
    reference: Path | None = None,
    device: str = "auto",
    batch_sizes: Sequence[int] = (1, 8, 32),
    rounds: int = 30,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> LatencyReport:
    """Time a bundle's golden crops on this machine.

    Parameters
    ----------
    bundle_path : Path
    engines : sequence of {"auto", "onnxruntime", "pytorch"}
        auto takes every engine that can be opened here.
    reference : Path, optional
        The bundle's run, for the engine pytorch.
    device : {"auto", "cpu", "cuda"}
    batch_sizes : sequence of int
    rounds : int
        Timed calls of each combination.
    say : callable, optional
        Takes sentences for the person who waits.
    progress : callable, optional
        Called after each call with the number of all calls.

    Raises
    ------
    BundleError
        If the bundle is damaged.
    EngineError
        If an engine that was named cannot be had, no variant is usable, or a call fails.
    """
    say = say or (lambda _: None)
    bundle = open_bundle(bundle_path)
    crops = _crops_of_one_size(load_golden(bundle).crops)
    with ExitStack() as stack:
        opened = _open_all(stack, bundle, engines, reference, device, crops[:1], say)
        say(f"{len(opened)} engines and variants, {len(batch_sizes)} batch sizes, {rounds} rounds")
        _time_rounds(opened, crops, batch_sizes, rounds, progress)
        loaded = tuple(_conclude(bundle, one) for one in opened)
    return LatencyReport(
        bundle=str(bundle_path),
        bundle_sha256=bundle.sha256,
        machine=describe_machine(),
        crop_size=crops.shape[1:3],
        crops=len(crops),
        rounds=rounds,
        warm_up_calls=WARM_UP_CALLS,
        loaded=loaded,
    )


def _crops_of_one_size(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    (shape, _), *_ = Counter(crop.shape for crop in crops).most_common(1)
    return np.stack([crop for crop in crops if crop.shape == shape])  # (n, h, w, 3)


def _open_all(
    stack: ExitStack,
    bundle: Bundle,
    engines: Sequence[str],
    reference: Path | None,
    device: str,
    first_crop: NDArray[np.uint8],
    say: Callable[[str], None],
) -> list[_Open]:
    opened = []
    for engine, variant in _combinations(bundle, engines, reference, device, say):
        started = time.perf_counter()
        running = open_engine(
            bundle, engine=engine, variant=variant, device=device, reference=reference
        )
        stack.enter_context(running)
        load_s = time.perf_counter() - started
        running.logits(first_crop)
        opened.append(_Open(running, load_s, time.perf_counter() - started))
    return opened


def _combinations(
    bundle: Bundle,
    engines: Sequence[str],
    reference: Path | None,
    device: str,
    say: Callable[[str], None],
) -> list[tuple[str, str]]:
    """Engine and variant of everything to be measured, their libraries imported."""
    found: list[tuple[str, str]] = []
    wanted = dict.fromkeys(("onnxruntime", "pytorch") if "auto" in engines else engines)
    for engine in wanted:
        try:
            if engine == "pytorch":
                found += _pytorch(bundle, reference)
            else:
                found += [(engine, variant) for variant in _variants(bundle, device)]
        except EngineError as error:
            if engine in engines:
                raise
            say(f"without {engine}: {error}")
    if not found:
        raise EngineError(
            "nothing can be measured: no variant has passed here",
            where=bundle.path,
            mend="run cytodino-export verify on this machine, or export the run again",
        )
    return found


def _variants(bundle: Bundle, device: str) -> tuple[str, ...]:
    from cytodino.engines.selection import PROVIDERS, providers_found

    found = providers_found()[0] if device == "auto" else device
    return usable_here(bundle, "onnxruntime", PROVIDERS[found])


def _pytorch(bundle: Bundle, reference: Path | None) -> list[tuple[str, str]]:
    if reference is None:
        raise EngineError("the engine pytorch needs the run itself", mend="give --reference RUN")
    try:
        import cytodino.engines.pytorch
        import cytodino.modeling.loading  # noqa: F401  # imported now, so that it is not timed
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train") from error
    return [("pytorch", "fp32")]


def _time_rounds(
    opened: Sequence[_Open],
    crops: NDArray[np.uint8],
    batch_sizes: Sequence[int],
    rounds: int,
    progress: Callable[[int], None] | None,
) -> None:
    pairs = [(one, size) for one in opened for size in batch_sizes]
    total = len(pairs) * (rounds + WARM_UP_CALLS)
    for one in opened:
        one.calls = {size: [] for size in batch_sizes}
    shuffle = np.random.default_rng(0)
    for number in range(-WARM_UP_CALLS, rounds):
        for index in shuffle.permutation(len(pairs)):
            one, size = pairs[index]
            # Other crops each round, the same for every engine: none is timed on easier cells.
            rows = (np.arange(size) + number * size) % len(crops)
            batch = crops[rows]  # (size, h, w, 3)
            started = time.perf_counter()
            one.engine.logits(batch)
            seconds = time.perf_counter() - started
            if number >= 0:
                one.calls[size].append(seconds)
            if progress is not None:
                progress(total)


def _conclude(bundle: Bundle, one: _Open) -> Loaded:
    parity = check_golden(bundle, one.engine)
    return Loaded(
        description=one.engine.describe(),
        load_s=one.load_s,
        first_result_s=one.first_result_s,
        parity_n=parity.n,
        agreement=parity.agreement,
        probability_max=parity.probability_max,
        verdict=parity.verdict,
        timings=tuple(summarise(size, calls) for size, calls in one.calls.items()),
    )


def summarise(batch_size: int, seconds: Sequence[float]) -> Timing:
    """Turn the seconds of timed calls into percentiles and a rate."""
    calls = 1000 * np.asarray(seconds, dtype=np.float64)
    p50, p90, p99 = (float(value) for value in np.percentile(calls, [50, 90, 99]))
    return Timing(
        batch_size=batch_size,
        p50_ms=p50,
        p90_ms=p90 if len(calls) >= ROUNDS_FOR_P90 else None,
        p99_ms=p99 if len(calls) >= ROUNDS_FOR_P99 else None,
        images_per_second=1000 * batch_size * len(calls) / float(calls.sum()),
        calls_ms=tuple(float(call) for call in calls),
    )


def write_json(report: LatencyReport, path: Path) -> None:
    """Write a report, whole or not at all.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(
            f"cannot be written ({error.strerror})", where=path, mend="choose another --json"
        ) from error
