"""The same weights on the same crops through what people would use instead, by turns.

Every peer computes in a process of its own; the parent gives each its turn, so that they meet the
same minutes of the machine and nothing else of each other. Turns are queries of some dozen crops
in memory, as many as are answered before the next peer's.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cytodino.bundle import Bundle, open_bundle
from cytodino.engines.selection import targets_found
from cytodino.engines.tuned import Configuration, find_choice
from cytodino.engines.variants import file_of
from cytodino.errors import EngineError
from cytodino.limits import LIMITS
from cytodino.machine import describe_machine
from cytodino_bench.latency import load_average
from cytodino_bench.peer_kinds import PEERS, Peer
from cytodino_bench.peer_preparation import model_file
from cytodino_bench.peer_results import conclude, promised_ratios
from cytodino_bench.peer_worker import REASON, Worker, quiet_environment
from cytodino_bench.peers_report import PeersReport
from cytodino_bench.subjects import find_subjects

__all__ = ["measure_peers"]

PREPARATION_TIMEOUT = 1800.0
"""Seconds for one quantiser."""

CALIBRATION = 32
"""Crops that peers calibrate on: the first ones, which take part in the comparison too."""

WARM_UP = 1
"""Untimed queries of each peer."""

Say = Callable[[str], None]


def measure_peers(
    run: Path,
    bundle_path: Path,
    crops: NDArray[np.uint8],
    folder: Path,
    *,
    peers: Sequence[Peer] = PEERS,
    query: int = 32,
    batch_size: int = 8,
    rounds: int = 10,
    say: Say = lambda text: None,
    progress: Callable[[int], None] = lambda total: None,
) -> PeersReport:
    """Measure peers and a bundle's variants against PyTorch eager fp32.

    Parameters
    ----------
    run : Path
        What the bundle was exported from.
    bundle_path : Path
    crops : uint8, (n, h, w, 3)
        Compared and timed; the first calibrate the peers' quantisers.
    folder : Path
        For the peers' files; what is there already is used again.
    peers : sequence of Peer
        The first is what the others are measured by.
    query : int
        Crops in one turn, a multiple of the batch size.
    batch_size : int
    rounds : int
    say, progress : callable

    Raises
    ------
    BundleError
        If the bundle is damaged.
    EngineError
        If PyTorch itself does not run; every other failure is a line of the report.
    """
    bundle, machine, load = open_bundle(bundle_path), describe_machine(), load_average()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "crops.npy", crops[: len(crops) // batch_size * batch_size])
    np.save(folder / "calibration.npy", crops[:CALIBRATION])
    failures = _prepare(run, folder, peers, say)
    ours = _our_configurations(bundle, say)
    candidates = [*peers, *ours]
    workers: dict[str, Worker] = {}
    try:
        for peer in candidates:
            if peer.needs in failures:
                failures[peer.name] = failures[peer.needs or ""]
                continue
            say(f"opening {peer.name}")
            model = model_file(folder, peer.needs) if peer.needs else None
            try:
                workers[peer.name] = Worker(
                    peer,
                    run=run,
                    model=model,
                    crops=folder / "crops.npy",
                    batch_size=batch_size,
                    bundle=bundle_path,
                    configuration=ours.get(peer),
                )
            except EngineError as error:
                failures[peer.name] = error.what
                say(f"without {peer.name}: {error.what}")
        logits = _answers(workers, folder, failures, say)
        say(f"{len(workers)} peers, {rounds} rounds of {query} crops by turns")
        seconds = _time_rounds(workers, rounds, query, failures, progress)
    finally:
        for worker in workers.values():
            worker.close()
    reference = peers[0].name
    if reference in failures or reference not in logits:
        raise EngineError(f"{reference} does not run: {failures.get(reference, 'no answer')}")
    limits = {**LIMITS, **bundle.manifest.limits}  # peers are INT8 where the bundle is not
    results = tuple(
        conclude(one, failures, logits, seconds, reference, query, limits).model_copy(
            update={"configuration": ours.get(one)}
        )
        for one in candidates
    )
    return PeersReport(
        run=str(run),
        bundle_sha256=bundle.sha256,
        machine=machine,
        load_average=load,
        crop_size=crops.shape[1:3],
        cells=len(logits[reference]),
        query=query,
        batch_size=batch_size,
        rounds=rounds,
        peers=results,
        must_show=promised_ratios(results),
    )


def _prepare(run: Path, folder: Path, peers: Sequence[Peer], say: Say) -> dict[str, str]:
    """Make what the peers need; return why, where it cannot be made, by preparation."""
    needed = dict.fromkeys(("plain", *(peer.needs for peer in peers if peer.needs)))
    failures: dict[str, str] = {}
    for preparation in needed:
        if model_file(folder, preparation).exists():
            continue
        if preparation != "plain" and "plain" in failures:
            failures[preparation] = failures["plain"]
            continue
        say(f"preparing {preparation}")
        words = (preparation, run.absolute(), folder.absolute(), folder / "calibration.npy")
        reason = _run_child("cytodino_bench.peer_preparation", *map(str, words))
        if reason is not None:
            failures[preparation] = reason
            say(f"without {preparation}: {reason}")
    return failures


def _run_child(module: str, *words: str) -> str | None:
    """Run a module in a process of its own; return why it failed, None where it did not."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PREPARATION_TIMEOUT,
            env=quiet_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done within {PREPARATION_TIMEOUT:g} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"was ended by signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return lines[-1][:REASON] if lines else f"ended with exit code {done.returncode}"


def _our_configurations(bundle: Bundle, say: Say) -> dict[Peer, Configuration]:
    """List everything of the bundle that passed here, and what was tuned."""
    engines = tuple(dict.fromkeys(target.engine for target in targets_found()))
    found = {
        _ours(one, f"CytoDINO {one.engine} {one.variant}"): one
        for one in find_subjects(bundle, engines=engines, device="cpu", say=say)
    }
    choice, stale = find_choice(bundle, device="cpu")
    if stale is not None:
        say(stale)
    if choice is not None:
        tuned = choice.configuration
        name = f"CytoDINO tuned: {tuned.engine} {tuned.variant}"
        found[_ours(tuned, name)] = tuned
    return found


def _ours(configuration: Configuration, name: str) -> Peer:
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    if file_of(configuration.variant) == "int8":
        precision = "int8"
    elif configuration.variant == "bf16":
        precision = "bf16"
    elif configuration.variant == "fp16":
        precision = "fp16"
    return Peer(name, "cytodino", precision)


def _answers(
    workers: dict[str, Worker], folder: Path, failures: dict[str, str], say: Say
) -> dict[str, NDArray[np.float32]]:
    """Have every peer classify all crops; float32 (n, 21) by name."""
    found = {}
    for name in list(workers):
        say(f"comparing {name}")
        path = folder / "logits.npy"
        try:
            workers[name].logits(path)
            found[name] = np.load(path, allow_pickle=False)
        except EngineError as error:
            _drop(workers, name, failures, error)
    return found


def _time_rounds(
    workers: dict[str, Worker],
    rounds: int,
    query: int,
    failures: dict[str, str],
    progress: Callable[[int], None],
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    shuffle = np.random.default_rng(0)
    for number in range(-WARM_UP, rounds):
        names = list(workers)
        for index in shuffle.permutation(len(names)):
            name = names[index]
            try:
                taken = workers[name].time((number + WARM_UP) * query, query)
            except EngineError as error:
                _drop(workers, name, failures, error)
                continue
            if number >= 0:
                seconds[name].append(taken)
            progress(len(names) * (rounds + WARM_UP))
    return seconds


def _drop(
    workers: dict[str, Worker], name: str, failures: dict[str, str], error: EngineError
) -> None:
    failures[name] = error.what
    workers.pop(name).close()
