"""What `tune` chooses from: engines, variants, and what each engine can be told."""

from collections.abc import Sequence
from dataclasses import dataclass

from cytodino.engines.tuned import Configuration, Goal

__all__ = ["Candidate", "default_candidate", "expand"]

REQUESTS = (1, 2, 4, 8)
"""Crops in one request of OpenVINO; 8 gave no more than 4 on two cores."""

CPU_BATCHES = (1, 4, 8, 16, 32)
CUDA_BATCHES = (8, 16, 32, 64, 128)
"""Crops in one call of onnxruntime."""

LEAST_BATCH = 16
"""Crops in one call of OpenVINO at least: with two requests a stream none waits for long."""


@dataclass(frozen=True)
class Candidate:
    """A configuration and how many crops it gets in one call."""

    configuration: Configuration
    batch_size: int

    def sentence(self) -> str:
        """Name it in one line."""
        return f"{self.configuration.sentence()}, batches of {self.batch_size}"


def expand(subject: Configuration, goal: Goal, cores: int) -> list[Candidate]:
    """List every way to open an engine and variant that is worth trying, on so many cores."""
    if subject.device == "cuda":
        sizes = (1,) if goal == "latency" else CUDA_BATCHES
        return [Candidate(subject, size) for size in sizes]
    if goal == "latency":
        return [
            Candidate(_set(subject, goal, threads, streams=1, crops=1), 1)
            for threads in _halvings(cores)
        ]
    if subject.engine == "openvino":
        return [
            Candidate(_set(subject, goal, threads, streams, crops), _whole(streams * crops))
            for threads in _halvings(cores)[:2]  # all, or one for each physical core
            for streams in _halvings(threads)
            for crops in REQUESTS
            if threads == cores or cores > 2
        ]
    return [
        Candidate(_set(subject, goal, threads), size)
        for threads in _halvings(cores)[:2]
        for size in CPU_BATCHES
    ]


def default_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Pick the one that stands for its engine and variant before its options are tried.

    All threads; in OpenVINO two streams, or as near as there are; four crops a request, eight a
    call: what was good on every machine so far.
    """

    def distance(one: Candidate) -> tuple[float, ...]:
        set_to = one.configuration
        return (
            -(set_to.threads or 0),
            abs((set_to.streams or 2) - 2),
            abs((set_to.crops_per_request or 4) - 4),
            abs(one.batch_size - 8),
        )

    return min(candidates, key=distance)


def _set(
    subject: Configuration,
    goal: Goal,
    threads: int,
    streams: int | None = None,
    crops: int | None = None,
) -> Configuration:
    options: dict[str, object] = {"threads": threads, "goal": goal}
    if subject.engine == "openvino":
        options |= {"streams": streams, "crops_per_request": crops}
    return subject.model_copy(update=options)


def _halvings(count: int) -> list[int]:
    """From all down to one: 6, 3, 1."""
    found = [count]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


def _whole(requests: int) -> int:
    """Smallest batch that fills every request and is large enough."""
    return requests * -(-LEAST_BATCH // requests)
