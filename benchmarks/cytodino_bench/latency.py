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

from cytodino.bundle import Bundle, open_bundle
from cytodino.bundle.golden import check_golden, load_golden
from cytodino.bundle.verdicts import usable_here
from cytodino.engines import Engine, open_engine
from cytodino.engines.selection import targets_found, why_unproven
from cytodino.engines.variants import ENGINES
from cytodino.errors import EngineError, MissingExtraError
from cytodino.machine import describe_machine
from cytodino_bench.latency_report import LatencyReport, Loaded, summarise

__all__ = ["measure_latency"]

WARM_UP_CALLS = 3
"""Untimed calls of each combination: the first allocates, the next still find cold caches."""


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
    engines : sequence of {"auto", "onnxruntime", "openvino", "pytorch"}
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
    machine, load_average = describe_machine(), _load_average()
    if load_average is not None and load_average > machine.cores / 2:
        say(
            f"warning: the machine is busy (load {load_average:.1f} on {machine.cores} cores), "
            "and so are the times"
        )
    with ExitStack() as stack:
        opened = _open_all(stack, bundle, engines, reference, device, crops[:1], say)
        say(f"{len(opened)} engines and variants, {len(batch_sizes)} batch sizes, {rounds} rounds")
        _time_rounds(opened, crops, batch_sizes, rounds, progress)
        loaded = tuple(_conclude(bundle, one) for one in opened)
    return LatencyReport(
        bundle=str(bundle_path),
        bundle_sha256=bundle.sha256,
        machine=machine,
        load_average=load_average,
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
    for engine, variant, where in _combinations(bundle, engines, reference, device, say):
        started = time.perf_counter()
        try:
            running = open_engine(
                bundle, engine=engine, variant=variant, device=where, reference=reference
            )
        except EngineError as error:
            if device != "auto":
                raise
            say(f"without {engine} {variant} on {where}: {error}")
            continue
        stack.enter_context(running)
        load_s = time.perf_counter() - started
        running.logits(first_crop)
        opened.append(_Open(running, load_s, time.perf_counter() - started))
        for warning in running.describe().warnings:
            say(f"warning: {warning}")
    if not opened:
        raise EngineError(
            "nothing can be measured: no variant has passed, or none opens here",
            where=bundle.path,
            mend="run cytodino-export verify on this machine, or export the run again",
        )
    return opened


def _combinations(
    bundle: Bundle,
    engines: Sequence[str],
    reference: Path | None,
    device: str,
    say: Callable[[str], None],
) -> list[tuple[str, str, str]]:
    """Engine, variant and device of everything to be tried, the libraries imported."""
    found: list[tuple[str, str, str]] = []
    wanted = dict.fromkeys((*ENGINES, "pytorch") if "auto" in engines else engines)
    for engine in wanted:
        try:
            if engine == "pytorch":
                _import_pytorch(reference)
                found.append((engine, "fp32", device))
            else:
                found += [(engine, *pair) for pair in _variants(bundle, engine, device)]
        except EngineError as error:
            if engine in engines:
                raise
            say(f"without {engine}: {error}")
    return found


def _variants(bundle: Bundle, engine: str, device: str) -> list[tuple[str, str]]:
    """Variant and device of what passed on an engine here."""
    return [
        (variant, target.device)
        for target in targets_found(engine)
        if device in ("auto", target.device)
        for variant in usable_here(bundle, target.engine, target.provider)
        if why_unproven(target, variant) is None
    ]


def _import_pytorch(reference: Path | None) -> None:
    """Load the libraries now, so that their import is not timed."""
    if reference is None:
        raise EngineError("the engine pytorch needs the run itself", mend="give --reference RUN")
    try:
        import cytodino.engines.pytorch
        import cytodino.modeling.loading  # noqa: F401  # for its side effect: it is loaded
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train") from error


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return None


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
