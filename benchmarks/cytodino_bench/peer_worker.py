"""A process for each peer: the parent says whose turn it is, so no two compute at a time.

Thread pools, allocators and crashes of one library stay away from the others. The parent writes a
line a command, the worker answers each with a line of JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

import numpy as np

from cytodino.engines.tuned import Configuration
from cytodino.errors import EngineError
from cytodino.telemetry import OPT_OUTS
from cytodino_bench.peer_kinds import Peer
from cytodino_bench.peer_models import Answer, open_peer

__all__ = ["REASON", "Worker", "quiet_environment"]

TIMEOUT = 900.0
"""Seconds for one answer: `torch.compile` takes minutes on few cores."""

REASON = 200
"""Characters of what a library said last: some list everything they know."""


def quiet_environment() -> dict[str, str]:
    """Environment of a child: no thread limits of the parent's, no reports to makers."""
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return {**kept, **OPT_OUTS, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class Worker:
    """One peer in its process.

    Parameters
    ----------
    peer : Peer
    run : Path
    model : Path, optional
        The file that it needs.
    crops : Path
        `.npy` of the crops, uint8 (n, h, w, 3).
    batch_size : int
    bundle : Path, optional
    configuration : Configuration, optional

    Raises
    ------
    EngineError
        If it does not open; so do the other methods when it dies.
    """

    def __init__(
        self,
        peer: Peer,
        *,
        run: Path,
        model: Path | None,
        crops: Path,
        batch_size: int,
        bundle: Path | None = None,
        configuration: Configuration | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.peer, self._timeout = peer, timeout
        job = {
            "peer": asdict(peer),
            "run": str(run.absolute()),
            "model": None if model is None else str(model.absolute()),
            "crops": str(crops.absolute()),
            "batch_size": batch_size,
            "bundle": None if bundle is None else str(bundle.absolute()),
            "configuration": configuration and configuration.model_dump(),
        }
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cytodino_bench.peer_worker", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=quiet_environment(),
        )
        self._answers: Queue[str] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._hear()
        except EngineError:
            self.close()
            raise

    def logits(self, path: Path) -> None:
        """Have the logits of all crops, float32 (n, 21), written to a `.npy`."""
        self._ask({"do": "logits", "path": str(path)})

    def time(self, first: int, count: int) -> float:
        """Let it answer `count` crops from the one numbered `first` on; return its seconds."""
        return float(self._ask({"do": "time", "first": first, "count": count})["seconds"])

    def close(self) -> None:
        """End the process; closing twice does nothing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._said.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it is gone: what it said last is the reason
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=self._timeout)
        except Empty:
            raise EngineError(f"gave no answer within {self._timeout:g} s") from None
        if not line:
            raise EngineError(self._why_gone())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put("")

    def _why_gone(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        if code < 0:
            return f"was ended by signal {-code}"
        return lines[-1][:REASON] if lines else f"ended with exit code {code}"


def _serve(answer: Answer, crops: np.ndarray, batch_size: int, out: IO[str]) -> None:
    def tell(**told: Any) -> None:
        print(json.dumps(told), file=out, flush=True)

    # A first batch: libraries that compile when they are first called fail here, not in a round.
    answer(crops[:batch_size])
    tell(ready=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "logits":
            np.save(command["path"], answer(crops))
            tell(done=True)
            continue
        rows = (np.arange(command["count"]) + command["first"]) % len(crops)
        batch = crops[rows]
        started = time.perf_counter()
        answer(batch)
        tell(seconds=time.perf_counter() - started)


def main(arguments: list[str]) -> int:
    """Open the peer that the one argument describes, and answer until the input ends."""
    # What libraries print goes to stderr; stdout is the parent's.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(arguments[0])
    model, bundle, configuration = job["model"], job["bundle"], job["configuration"]
    answer = open_peer(
        Peer(**job["peer"]),
        run=Path(job["run"]),
        model=model and Path(model),
        batch_size=job["batch_size"],
        bundle=bundle and Path(bundle),
        configuration=configuration and Configuration.model_validate(configuration),
    )
    _serve(answer, np.load(job["crops"], allow_pickle=False), job["batch_size"], out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
