"""One engine in a process of its own: how soon it answers, and how much memory it takes.

Both can only be told from a fresh process: in one that measures ten engines the libraries are
loaded and the memory is everybody's.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from cytodino.bundle import Bundle
from cytodino.bundle.manifest import MANIFEST_NAME, read_manifest
from cytodino.engines.openvino import OpenVinoEngine
from cytodino.engines.tuned import Configuration
from cytodino.errors import CytoDinoError, EngineError
from cytodino_bench.subjects import open_subject

__all__ = ["ColdStart", "measure_cold_start"]

TIMEOUT = 900.0
"""Seconds for one process; a large model compiles in minutes on few cores."""


class ColdStart(BaseModel):
    """What fresh processes told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    load_s: float
    """Engine library imported and model opened, with nothing compiled from before."""
    first_result_s: float
    """The same, and the first batch answered."""
    load_again_s: float | None
    """As `load_s`, with the compiled model in the cache; None where the engine keeps none."""
    first_result_again_s: float | None
    peak_memory: int | None
    """Bytes resident at most in one of these processes; None where the system does not tell."""


class _Task(BaseModel):
    bundle: Path
    configuration: Configuration
    reference: Path | None
    batch_size: int
    crop_size: tuple[int, int]
    cache: Path


class _Told(BaseModel):
    load_s: float
    first_result_s: float
    keeps_compiled: bool
    peak_memory: int | None


def measure_cold_start(
    bundle: Bundle,
    configuration: Configuration,
    *,
    batch_size: int,
    crop_size: tuple[int, int],
    reference: Path | None = None,
    timeout: float = TIMEOUT,
) -> ColdStart:
    """Open a configuration in a fresh process, and once more where it keeps what it compiled.

    Parameters
    ----------
    bundle : Bundle
    configuration : Configuration
    batch_size : int
        Crops of the first call.
    crop_size : height and width, px
    reference : Path, optional
        The run, for the engine pytorch.
    timeout : float, seconds

    Raises
    ------
    EngineError
        If the engine cannot be opened, crashes, or takes longer.
    """
    with tempfile.TemporaryDirectory(prefix="cytodino-bench-") as cache:
        task = _Task(
            bundle=bundle.path.absolute(),
            configuration=configuration,
            reference=None if reference is None else reference.absolute(),
            batch_size=batch_size,
            crop_size=crop_size,
            cache=Path(cache),
        )
        first = _run(task, timeout)
        again = _run(task, timeout) if first.keeps_compiled else None
    peaks = [one.peak_memory for one in (first, again) if one and one.peak_memory]
    return ColdStart(
        load_s=first.load_s,
        first_result_s=first.first_result_s,
        load_again_s=again.load_s if again else None,
        first_result_again_s=again.first_result_s if again else None,
        peak_memory=max(peaks, default=None),
    )


def peak_memory() -> int | None:
    """Most memory resident in this process so far, bytes; None where the system does not tell."""
    try:
        # Of this program alone: Linux hands `ru_maxrss` down from the process that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _peak_by_getrusage()
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    peak = lines.get("VmHWM", "").split()
    return int(peak[0]) * 1024 if peak else _peak_by_getrusage()


def _peak_by_getrusage() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _run(task: _Task, timeout: float) -> _Told:
    subject = task.configuration.sentence()
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cytodino_bench.cold_start", task.model_dump_json()],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"{subject} did not answer within {timeout:g} s", mend="leave it out with --engine"
        ) from error
    if done.returncode == 0:
        return _Told.model_validate_json(done.stdout.splitlines()[-1])
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    reason = said[-1] if said and done.returncode > 0 else f"exit code {done.returncode}"
    raise EngineError(f"{subject} does not run in a process of its own: {reason}")


def _work(task: _Task) -> _Told:
    # Hashing is the same for every engine, and done by the parent: here the manifest suffices.
    manifest, sha256 = read_manifest(task.bundle / MANIFEST_NAME)
    bundle = Bundle(path=task.bundle, manifest=manifest, sha256=sha256)
    crops = np.random.default_rng(0).integers(
        0, 256, (task.batch_size, *task.crop_size, 3), dtype=np.uint8
    )
    started = time.perf_counter()
    with open_subject(
        bundle, task.configuration, reference=task.reference, cache=task.cache
    ) as engine:
        load_s = time.perf_counter() - started
        engine.logits(crops)
        first_result_s = time.perf_counter() - started
        keeps_compiled = isinstance(engine, OpenVinoEngine)
    return _Told(
        load_s=load_s,
        first_result_s=first_result_s,
        keeps_compiled=keeps_compiled,
        peak_memory=peak_memory(),
    )


def main(arguments: list[str]) -> int:
    """Do the task that the one argument describes; say on stdout what came of it."""
    try:
        told = _work(_Task.model_validate(json.loads(arguments[0])))
    except CytoDinoError as error:
        print(" ".join(str(error).split()))
        return 1
    print(told.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
