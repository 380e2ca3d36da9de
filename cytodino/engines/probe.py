"""Open an engine in a child process first: a crash there is a failed verdict, not a dead program.

onnxruntime has been seen to die on an FP16 graph while it created the session.
"""

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cytodino.engines.selection import open_model
from cytodino.errors import CytoDinoError

__all__ = ["Probe", "probe"]

TIMEOUT = 900.0
"""Seconds: a large model on few cores opens in half a minute, a compiled one in minutes."""

SIDE = 64
"""Height of the probe's crops, pixels; any size has to do."""


@dataclass(frozen=True)
class Probe:
    """What is to be tried."""

    model: str
    """Path of the ONNX file."""
    engine: str
    variant: str
    device: str
    provider: str | None = None
    threads: int | None = None
    cache: str | None = None
    """Folder for compiled models."""


def probe(
    model: Path,
    *,
    engine: str,
    variant: str,
    device: str,
    provider: str | None = None,
    threads: int | None = None,
    cache: Path | None = None,
    timeout: float = TIMEOUT,
) -> str | None:
    """Open a model in a child process and run two crops through it.

    Returns
    -------
    str or None
        Why it failed, as a sentence; None if it works.
    """
    folder = None if cache is None else str(cache)
    task = Probe(str(model.absolute()), engine, variant, device, provider, threads, folder)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cytodino.engines.probe", json.dumps(asdict(task))],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{engine} did not open the model within {timeout:g} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"{engine} crashed while opening the model ({_signal_name(-done.returncode)})"
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return lines[-1] if lines else f"{engine} ended with exit code {done.returncode}"


def run_probe(task: Probe) -> None:
    """Open the model and classify one crop, then two.

    Raises
    ------
    CytoDinoError
        If the engine cannot open or run it.
    """
    with open_model(
        Path(task.model),
        engine=task.engine,
        variant=task.variant,
        device=task.device,
        provider=task.provider,
        threads=task.threads,
        cache=Path(task.cache) if task.cache else None,
    ) as engine:
        for count in (1, 2):
            engine.logits(np.full((count, SIDE, SIDE + 3, 3), 128, dtype=np.uint8))


def main(arguments: list[str]) -> int:
    """Run the probe that the one argument describes; say on stdout what is wrong."""
    try:
        run_probe(Probe(**json.loads(arguments[0])))
    except CytoDinoError as error:
        print(error)
        return 1
    return 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
