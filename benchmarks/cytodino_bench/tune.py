"""Find the fastest configuration that still says what PyTorch said, on this machine.

Successive halving: first every engine and variant once, as it usually runs best; then all options
of those that are near the fastest; then fewer and fewer candidates for more and more rounds. The
fastest at the end has to pass on every golden cell, in the very configuration that is recorded.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np

from cytodino.bundle import Bundle, open_bundle
from cytodino.bundle.golden import check_golden, load_golden
from cytodino.engines.selection import targets_found
from cytodino.engines.tuned import (
    Choice,
    Goal,
    find_choice,
    open_configuration,
    record_choice,
)
from cytodino.errors import EngineError, ParityError
from cytodino.machine import cache_folder, describe_machine
from cytodino_bench.latency import most_frequent_size
from cytodino_bench.race import Race, Record
from cytodino_bench.space import Candidate, default_candidate, expand
from cytodino_bench.subjects import find_subjects
from cytodino_bench.tune_report import Refused, Tuned, TuneReport

__all__ = ["DEFAULT_BUDGET", "tune_bundle"]

DEFAULT_BUDGET = 240.0
"""Seconds; the golden check at the end is counted in."""

NEAR = 0.5
"""Share of the fastest variant's speed below which a variant's options are not tried: between the
best and the usual options of one variant there was never so much."""

FIRST_ROUNDS = 3
"""Rounds of the first heats; doubled each time that the slower half is left behind."""

LAST_HEAT = 4
"""Candidates that run to the end, side by side."""

CHANCES = 2
"""Configurations of one engine and variant that may stray before the others are not asked."""

RESERVE = 0.4
"""Share of the budget that is kept for the golden check before anything is measured."""

CHECKS = 1.5
"""Golden checks that time is kept for, once it is known how long one takes."""

OPENING = 5.0
"""Seconds kept for opening what was chosen once more, its compiled form into the cache."""


def tune_bundle(
    path: Path,
    *,
    goal: Goal = "throughput",
    budget: float = DEFAULT_BUDGET,
    device: str = "auto",
    exhaustive: bool = False,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> TuneReport:
    """Find the fastest configuration of a bundle that passes here, and record it.

    Parameters
    ----------
    path : Path
        The bundle.
    goal : {"throughput", "latency"}
        Most crops a second, or one crop soonest.
    budget : float
        Seconds for all of it; an exhaustive sweep takes what it takes.
    device : {"auto", "cpu", "cuda"}
    exhaustive : bool
        Time every candidate, and beside the fastest the choice that was recorded before.
    say : callable
        Told what is being done.
    progress : callable
        Called with the candidates done and all of them, in each part of the search.
    clock : callable
        Seconds.

    Raises
    ------
    BundleError
        If it is no bundle, or a file is missing, truncated or changed.
    EngineError
        If no variant has passed on an engine here, or none opens.
    ParityError
        If none of the fastest passes on the golden cells.
    """
    began = clock()
    bundle, machine = open_bundle(path), describe_machine()
    golden = load_golden(bundle)
    engines = tuple(dict.fromkeys(target.engine for target in targets_found()))
    subjects = find_subjects(bundle, engines=engines, device=device, say=say)
    pairs = [expand(one, goal, machine.cores) for one in subjects]
    earlier = find_choice(bundle, device=device, machine=machine).choice
    with Race(
        lambda configuration: open_configuration(bundle, configuration, cache=None),
        most_frequent_size(golden.crops),
        deadline=float("inf") if exhaustive else began + (1 - RESERVE) * budget,
        say=say,
        progress=progress,
        clock=clock,
    ) as race:
        if exhaustive:
            order = _sweep(race, pairs, earlier, say)
        else:
            order = _halve(race, pairs, began + budget, len(golden.crops), say)
        records = race.records
    if not order:
        raise EngineError(
            "nothing could be timed: no engine opens here, or none within the budget",
            where=bundle.path,
            mend="give a larger --budget, or run cytodino-export verify on this machine",
        )
    rest = sorted((one for one in records if one not in order), key=lambda one: -records[one].score)
    chosen, refused = _first_that_passes(bundle, [*order, *rest], say)
    choice = Choice(
        bundle_sha256=bundle.sha256,
        machine=machine,
        configuration=chosen.configuration,
        batch_size=chosen.batch_size,
        goal=goal,
        images_per_second=median(records[chosen].rates),
        p50_ms=1000 * median(records[chosen].calls),
        golden_cells=len(golden.crops),
        created=datetime.now(UTC).replace(microsecond=0),
    )
    timed = _describe(records, [*order, *rest])
    return TuneReport(
        bundle=str(path),
        bundle_sha256=bundle.sha256,
        machine=machine,
        goal=goal,
        budget_s=None if exhaustive else budget,
        seconds=clock() - began,
        candidates=sum(map(len, pairs)),
        timed=timed,
        refused=refused,
        choice=choice,
        earlier=earlier,
        earlier_relative=_relative(timed, earlier) if exhaustive else None,
        record=_keep(bundle, choice, say),
    )


def _halve(
    race: Race,
    pairs: Sequence[Sequence[Candidate]],
    end: float,
    cells: int,
    say: Callable[[str], None],
) -> list[Candidate]:
    """Run rung after rung; return the last that ran, fastest first."""
    say(f"{len(pairs)} engines and variants, each as it usually runs best")
    first = {default_candidate(pair): pair for pair in pairs}
    order = race.run(list(first), FIRST_ROUNDS)
    if not order:
        return []
    fastest = race.records[order[0]].score
    near = [one for one in order if race.records[one].score >= NEAR * fastest]
    # The nearest first: should time run out, it is the others that were not tried.
    following = [one for lead in near for one in first[lead]]
    rounds = FIRST_ROUNDS
    while not race.is_over:
        check = cells / median(race.records[order[0]].rates)
        race.deadline = end - CHECKS * check - OPENING
        say(f"{len(following)} candidates, {rounds} rounds")
        order = race.run(following, rounds) or order
        if len(following) <= LAST_HEAT:
            break
        following, rounds = order[: max(len(order) // 2, LAST_HEAT)], 2 * rounds
    return order


def _sweep(
    race: Race,
    pairs: Sequence[Sequence[Candidate]],
    earlier: Choice | None,
    say: Callable[[str], None],
) -> list[Candidate]:
    """Time everything, then the fastest once more beside what was recorded before."""
    everything = [one for pair in pairs for one in pair]
    say(f"{len(everything)} candidates, 4 rounds")
    order = race.run(everything, rounds=4)
    last = order[:LAST_HEAT]
    if earlier is not None:
        before = Candidate(earlier.configuration, earlier.batch_size)
        last = list(dict.fromkeys((*last, before)))
    say(f"{len(last)} candidates, 12 rounds")
    return race.run(last, rounds=12)


def _first_that_passes(
    bundle: Bundle, order: Sequence[Candidate], say: Callable[[str], None]
) -> tuple[Candidate, tuple[Refused, ...]]:
    refused: list[Refused] = []
    failures: Counter[tuple[str, str]] = Counter()
    for one in order:
        name = (one.configuration.engine, one.configuration.variant)
        if failures[name] >= CHANCES:
            continue
        say(f"checking {one.sentence()} on all golden cells")
        reason = _why_refused(bundle, one)
        if reason is None:
            return one, tuple(refused)
        failures[name] += 1
        refused.append(
            Refused(configuration=one.configuration, batch_size=one.batch_size, reason=reason)
        )
        say(f"refused: {reason}")
    raise ParityError(
        f"no configuration passes: {refused[0].reason}",
        where=bundle.path,
        mend="run cytodino-export verify on this machine, or export the run again",
    )


def _why_refused(bundle: Bundle, one: Candidate) -> str | None:
    """Hold a candidate against PyTorch; on the way its compiled form gets into the cache."""
    cache = cache_folder() / "openvino"
    try:
        with open_configuration(bundle, one.configuration, cache=cache) as engine:
            report = check_golden(bundle, engine, batch_size=one.batch_size)
    except (EngineError, ParityError) as error:
        return str(error)
    return "; ".join(report.failures) or None


def _describe(records: Mapping[Candidate, Record], order: Sequence[Candidate]) -> tuple[Tuned, ...]:
    fastest = records[order[0]].score
    return tuple(
        Tuned(
            configuration=one.configuration,
            batch_size=one.batch_size,
            relative=records[one].score / fastest,
            images_per_second=median(records[one].rates),
            p50_ms=1000 * median(records[one].calls),
            p90_ms=1000 * float(np.percentile(records[one].calls, 90)),
            rounds=len(records[one].rates),
        )
        for one in order
    )


def _relative(timed: Sequence[Tuned], earlier: Choice | None) -> float | None:
    """Speed of what was recorded before, by the fastest one's."""
    for one in timed:
        if earlier is not None and (one.configuration, one.batch_size) == (
            earlier.configuration,
            earlier.batch_size,
        ):
            return one.relative
    return None


def _keep(bundle: Bundle, choice: Choice, say: Callable[[str], None]) -> str | None:
    try:
        return str(record_choice(bundle, choice))
    except OSError as error:  # what was found is worth saying all the same
        say(f"not recorded: {cache_folder()} cannot be written ({error.strerror})")
        return None
