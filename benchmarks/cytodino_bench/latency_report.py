"""What `cytodino-bench latency` measured, as a record and as a file."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from cytodino.engines import EngineDescription
from cytodino.errors import InputError
from cytodino.machine import Machine

__all__ = ["LatencyReport", "Loaded", "Timing", "summarise", "write_json"]

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
    load_average: float | None
    """Processes that ran or waited in the minute before; None where the system does not say."""
    crop_size: tuple[int, int]
    """Height and width of the timed crops, px: the most frequent size among the golden cells."""
    crops: int
    """How many different crops took part; larger batches repeat them."""
    rounds: int
    warm_up_calls: int
    loaded: tuple[Loaded, ...]


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
