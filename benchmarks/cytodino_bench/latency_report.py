"""What `cytodino-bench latency` measured, as a record."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from cytodino.engines import EngineDescription
from cytodino.machine import Machine
from cytodino.parity import Verdict
from cytodino.paths import PrintableText
from cytodino_bench.cold_start import ColdStart

__all__ = ["OFFLINE", "SINGLE_STREAM", "LatencyReport", "Loaded", "Scenario", "Timing", "summarise"]

Scenario = Literal["single stream", "offline"]
"""As MLPerf Inference names them: one crop a query, the next sent when it is answered, judged by
the 90th percentile of latency; and all crops at hand at once, judged by throughput."""

SINGLE_STREAM: Scenario = "single stream"
OFFLINE: Scenario = "offline"

CALLS_FOR_P90 = 10
CALLS_FOR_P99 = 100
"""With fewer calls a percentile is only the slowest of them under another name."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Timing(_Record):
    """One engine and variant in one scenario, at one batch size."""

    scenario: Scenario
    batch_size: int
    p50_ms: float
    """Milliseconds a call, as are the others."""
    p90_ms: float | None
    """None below 10 calls."""
    p99_ms: float | None
    """None below 100 calls."""
    spread: float
    """Interquartile range of the calls, as a share of their median: how unsteady they were."""
    images_per_second: float
    """Crops of all timed calls over their time."""
    joules_a_crop: float | None
    """Of the counters in the report's `energy_sources`; None where there are none."""
    calls_ms: tuple[float, ...]
    """Every timed call, in order."""


class Loaded(_Record):
    """One engine and variant: what it is, how soon it answers, how right, and how fast."""

    description: EngineDescription
    start: ColdStart
    parity_n: int
    """Golden cells that were compared, in this process, after the last timed call."""
    agreement: float
    """Share of them given the PyTorch model's class, 0 to 1."""
    probability_max: float
    """Largest change of any probability on them, 0 to 1."""
    verdict: Verdict
    """By the bundle's limits."""
    timings: tuple[Timing, ...]

    @property
    def purpose(self) -> str:
        """The scenarios that it was opened for."""
        return " and ".join(dict.fromkeys(timing.scenario for timing in self.timings))


class LatencyReport(_Record):
    """What `cytodino-bench latency` measured."""

    bundle: PrintableText
    bundle_sha256: str
    machine: Machine
    load_average: float | None
    """Processes that ran or waited in the minute before; None where the system does not say."""
    energy_sources: tuple[str, ...]
    """Counters that were readable; each counts for everything on its chip."""
    crop_size: tuple[int, int]
    """Height and width of the timed crops, px: the most frequent size among the golden cells."""
    crops: int
    """How many different crops took part; larger batches repeat them."""
    rounds: int
    warm_up_calls: int
    loaded: tuple[Loaded, ...]


def summarise(
    scenario: Scenario, batch_size: int, seconds: Sequence[float], joules: float | None = None
) -> Timing:
    """Turn the seconds of timed calls, and their joules together, into percentiles and rates."""
    calls = 1000 * np.asarray(seconds, dtype=np.float64)
    p25, p50, p75, p90, p99 = (float(value) for value in np.percentile(calls, [25, 50, 75, 90, 99]))
    return Timing(
        scenario=scenario,
        batch_size=batch_size,
        p50_ms=p50,
        p90_ms=p90 if len(calls) >= CALLS_FOR_P90 else None,
        p99_ms=p99 if len(calls) >= CALLS_FOR_P99 else None,
        spread=(p75 - p25) / p50,
        images_per_second=1000 * batch_size * len(calls) / float(calls.sum()),
        joules_a_crop=None if joules is None else joules / (batch_size * len(calls)),
        calls_ms=tuple(float(call) for call in calls),
    )
