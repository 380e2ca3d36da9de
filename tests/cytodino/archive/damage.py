"""Damage from a seed, and a child that meets it under a time limit."""

import json
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

WORKER = Path(__file__).with_name("fuzz_worker.py")


def flip_bit(content: bytearray, rng: np.random.Generator) -> None:
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))


def flip_bits(content: bytearray, rng: np.random.Generator) -> None:
    for _ in range(20):
        flip_bit(content, rng)


def edit_header(content: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(2000))
    content[at : at + 8] = rng.integers(0, 256, 8, dtype=np.uint8).tobytes()


def blank(content: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(content) - 64))
    content[at : at + 64] = bytes(64)


def truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(len(content))) :]


DAMAGES = {
    damage.__name__: damage for damage in (flip_bit, flip_bits, edit_header, blank, truncate)
}


def remove_attributes(path: Path, rng: np.random.Generator) -> None:
    """Remove one attribute, or all, of the file and of the objects in it."""
    with h5py.File(path, "r+") as file:
        items: list[h5py.HLObject] = [file]
        file.visititems(lambda _name, item: items.append(item))
        having = [item for item in items if len(item.attrs)]
        if having:
            item = having[rng.integers(len(having))]
            names = list(item.attrs)
            for name in names if rng.random() < 0.3 else [names[rng.integers(len(names))]]:
                del item.attrs[name]


def damage_file(path: Path, seed: int) -> str:
    """Damage a file in the way that the seed says; return the name of it."""
    rng = np.random.default_rng(seed)
    kind = [*DAMAGES, "remove_attributes"][rng.integers(len(DAMAGES) + 1)]
    if kind == "remove_attributes":
        remove_attributes(path, rng)
    else:
        content = bytearray(path.read_bytes())
        DAMAGES[kind](content, rng)
        path.write_bytes(bytes(content))
    return kind


class Reader:
    """A child process that reads archives; one that hangs or dies is replaced."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def read(self, path: Path) -> dict[str, Any]:
        """Return the child's answer, or ``{"hang": True}``, or ``{"crash": code}``."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{path}\n")
        self._child.stdin.flush()
        try:
            line = self._answers.get(timeout=self._seconds)
        except queue.Empty:
            self._stop()
            self._start()
            return {"hang": True}
        if not line:
            code = self._child.wait()
            self._stop()
            self._start()
            return {"crash": code}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(
            target=self._listen, args=(self._child, self._answers), daemon=True
        )
        self._thread.start()

    @staticmethod
    def _listen(child: "subprocess.Popen[str]", answers: "queue.Queue[str]") -> None:
        assert child.stdout is not None
        for line in child.stdout:
            answers.put(line)
        answers.put("")

    def _stop(self) -> None:
        self._child.kill()
        self._child.wait()
        self._thread.join()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
