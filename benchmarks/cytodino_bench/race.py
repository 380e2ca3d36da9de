"""Candidates against each other in heats, by turns, each as a ratio to one that runs in every heat.

A machine's speed drifts by tens of per cent in minutes; the ratio of two engines that take turns
does not. So a pacemaker runs in every heat, and what is compared across heats is the ratio to it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from cytodino.engines import Engine
from cytodino.engines.tuned import Configuration
from cytodino.errors import EngineError
from cytodino_bench.space import Candidate

__all__ = ["Race", "Record"]

HEAT = 5
"""Configurations open at a time beside the pacemaker: each holds the weights at least once."""

TURN_SECONDS = 0.15
"""A turn is one call, or as many as take so long: short calls are steadier together."""


@dataclass
class Record:
    """What one candidate did so far."""

    ratios: list[float] = field(default_factory=list)
    """Images/s of each turn, by the pacemaker's of the same round."""
    rates: list[float] = field(default_factory=list)
    """Images/s of each turn."""
    calls: list[float] = field(default_factory=list)
    """Seconds of each call."""

    @property
    def score(self) -> float:
        """Median ratio to the pacemaker."""
        return median(self.ratios)


class Race:
    """Measures candidates until a deadline.

    Parameters
    ----------
    open_configuration : callable
        Opens an engine; what raises `EngineError` is left out, and said.
    crops : uint8, (n, h, w, 3)
    deadline : float
        On the clock; no heat begins, and no further round of one, when it has passed.
    say : callable
        Told what is left out.
    progress : callable
        Called after each heat with the candidates done and all of them.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        open_configuration: Callable[[Configuration], Engine],
        crops: NDArray[np.uint8],
        *,
        deadline: float,
        say: Callable[[str], None] = lambda text: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._open = open_configuration
        self._crops = crops
        self.deadline = deadline
        self._say, self._progress, self._clock = say, progress, clock
        self._pacemaker: tuple[Candidate, Engine] | None = None
        self._stack = ExitStack()
        self.records: dict[Candidate, Record] = {}

    def __enter__(self) -> "Race":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._clock() >= self.deadline

    def run(self, candidates: Sequence[Candidate], rounds: int) -> list[Candidate]:
        """Time candidates, and return those with any record, fastest first."""
        done = 0
        for heat in self._heats(candidates):
            if self.is_over:
                self._say(f"out of time: {len(candidates) - done} of {len(candidates)} not tried")
                break
            self._run_heat(heat, rounds)
            done += len(heat)
            self._progress(done, len(candidates))
        known = [one for one in candidates if one in self.records]
        return sorted(known, key=lambda one: -self.records[one].score)

    def _heats(self, candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
        """Split candidates so that few configurations are open at a time; sizes share an engine."""
        by_configuration: dict[Configuration, list[Candidate]] = {}
        for one in candidates:
            by_configuration.setdefault(one.configuration, []).append(one)
        groups = list(by_configuration.values())
        for start in range(0, len(groups), HEAT):
            yield [one for group in groups[start : start + HEAT] for one in group]

    def _run_heat(self, heat: Sequence[Candidate], rounds: int) -> None:
        if self._pacemaker is None and not self._set_pace(heat):
            return
        with ExitStack() as stack:
            engines = self._open_all(stack, heat)
            runners = [
                (one, engines[one.configuration])
                for one in heat
                if one.configuration in engines and self._warms_up(one, engines[one.configuration])
            ]
            shuffle = np.random.default_rng(len(self.records))
            for number in range(rounds):
                if number and self.is_over:
                    break
                self._run_round(runners, number, shuffle)

    def _set_pace(self, heat: Sequence[Candidate]) -> bool:
        """Let the first candidate that opens be in every heat to come."""
        for one in heat:
            engine = self._opened(one.configuration, self._stack)
            if engine is not None and self._warms_up(one, engine):
                self._pacemaker = one, engine
                return True
        return False

    def _warms_up(self, one: Candidate, engine: Engine) -> bool:
        try:
            engine.logits(self._batch(one, 0))
        except EngineError as error:
            self._say(f"without {one.sentence()}: {error.what}")
            return False
        return True

    def _run_round(
        self,
        runners: Sequence[tuple[Candidate, Engine]],
        number: int,
        shuffle: np.random.Generator,
    ) -> None:
        assert self._pacemaker is not None
        pace = self._turn(*self._pacemaker, number)[0]
        turns = {}
        for index in shuffle.permutation(len(runners)):
            one, engine = runners[index]
            turns[one] = self._turn(one, engine, number)
        # The pace before and after: a machine that slows down in a round is fair to all in it.
        pace = (pace + self._turn(*self._pacemaker, number)[0]) / 2
        for one, (rate, calls) in turns.items():
            record = self.records.setdefault(one, Record())
            record.ratios.append(rate / pace)
            record.rates.append(rate)
            record.calls += calls

    def _turn(self, one: Candidate, engine: Engine, number: int) -> tuple[float, list[float]]:
        """Call an engine for a while; return images/s and the seconds of each call."""
        calls: list[float] = []
        while not calls or sum(calls) < TURN_SECONDS:
            batch = self._batch(one, number + len(calls))
            started = self._clock()
            engine.logits(batch)
            calls.append(self._clock() - started)
        return one.batch_size * len(calls) / sum(calls), calls

    def _batch(self, one: Candidate, number: int) -> NDArray[np.uint8]:
        rows = (np.arange(one.batch_size) + number * one.batch_size) % len(self._crops)
        return self._crops[rows]  # (batch, h, w, 3)

    def _open_all(self, stack: ExitStack, heat: Sequence[Candidate]) -> dict[Configuration, Engine]:
        assert self._pacemaker is not None
        engines = {self._pacemaker[0].configuration: self._pacemaker[1]}
        for configuration in dict.fromkeys(one.configuration for one in heat):
            if configuration in engines or self.is_over:
                continue
            engine = self._opened(configuration, stack)
            if engine is not None:
                engines[configuration] = engine
        return engines

    def _opened(self, configuration: Configuration, stack: ExitStack) -> Engine | None:
        try:
            return stack.enter_context(self._open(configuration))
        except EngineError as error:
            self._say(f"without {configuration.sentence()}: {error.what}")
            return None
