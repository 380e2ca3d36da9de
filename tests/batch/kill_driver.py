"""Run classification in forked children that kill themselves at a chosen call to the system.

`python kill_driver.py FOLDER SEED COUNT` prints, as JSON, how many moments there are, at which the
children were killed, and for each whether the resumed results are those of an undisturbed run. A
process of its own, without threads, because it forks.
"""

import json
import os
import random
import shutil
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent))

from conftest import PixelEngine, draw_crops, write_crops  # noqa: E402 - its folder comes first

from cytodino.limits import LIMITS  # noqa: E402 - as above
from cytodino_batch.batch_size import BatchChoice  # noqa: E402 - as above
from cytodino_batch.options import ClassifyOptions  # noqa: E402 - as above
from cytodino_batch.plan import plan_archives  # noqa: E402 - as above
from cytodino_batch.runner import classify_archives  # noqa: E402 - as above
from cytodino_batch.session import Session  # noqa: E402 - as above
from cytodino_batch.task import Task  # noqa: E402 - as above

CALLS = ("write", "fsync", "ftruncate", "replace", "unlink")
FILES = ("predictions.csv", "predictions.h5", "quarantine.csv", "summary.json")


class Moments:
    """Counts calls to the system, and kills the process at the chosen one, a write half way."""

    def __init__(self, fatal: int | None) -> None:
        self.count = 0
        self._fatal = fatal
        self._lock = threading.Lock()
        for name in CALLS:
            setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name, call):
        def watched(*args, **kwargs):
            with self._lock:
                if self.count == self._fatal:
                    if name == "write":
                        call(args[0], bytes(args[1])[: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                self.count += 1
            return call(*args, **kwargs)

        return watched


def classify(folder: Path, out: Path) -> None:
    options = ClassifyOptions(
        archives=(folder / "in",), bundle=folder, out=out, parity="live", parity_sample=20
    )
    bundle = SimpleNamespace(
        path=Path("bundle"), sha256="b" * 64, manifest=SimpleNamespace(limits=dict(LIMITS))
    )
    session = Session(
        bundle=bundle,
        engine=PixelEngine(),
        batch=BatchChoice(4),
        golden=None,
        reference=PixelEngine(),
    )
    tasks = [Task(planned) for planned in plan_archives(options.archives, options.out)]
    outcomes = classify_archives(tasks, session, options)
    assert {outcome.status for outcome in outcomes} == {"done"}, outcomes


def in_child(folder: Path, out: Path, fatal: int | None = None) -> tuple[int, int]:
    """Return the wait status of a child that classifies, and the moments that it lived through."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            write = os.write
            moments = Moments(fatal)
            classify(folder, out)
            write(writing, str(moments.count).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as told:
        count = told.read()
    return os.waitpid(child, 0)[1], int(count or 0)


def results(out: Path) -> dict[str, object]:
    """Everything below `out`, a summary without its section `run`."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(out))] = path.read_bytes().hex()
            if path.name == "summary.json":
                summary = json.loads(path.read_text(encoding="utf-8"))
                del summary["run"]
                found[str(path.relative_to(out))] = summary
    return found


def main(folder: Path, seed: int, count: int) -> dict[str, object]:
    for name, cells in (("a", 210), ("b", 130)):
        coords = [[row, 2 * row] for row in range(cells)]
        ids = [f"{name}/{row}.png" for row in range(cells)]
        crops = draw_crops(cells, seed=cells)
        write_crops(folder / f"in/{name}.h5", crops, damaged=[3, 100], ids=ids, coords=coords)
    status, total = in_child(folder, folder / "whole")
    whole = results(folder / "whole")
    assert status == 0
    assert sorted(whole) == [f"{name}/{file}" for name in "ab" for file in FILES]
    moments = sorted(random.Random(seed).sample(range(total), min(count, total)))
    verdicts = []
    for moment in moments:
        out = folder / "out"
        killed, _ = in_child(folder, out, moment)
        half = results(out)
        early = [
            name for name in half if name.endswith("summary.json") and half[name] != whole[name]
        ]
        resumed, _ = in_child(folder, out)
        verdicts.append(
            os.WIFSIGNALED(killed) and resumed == 0 and not early and results(out) == whole
        )
        shutil.rmtree(out)
    return {"total": total, "moments": moments, "equal": verdicts}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
