"""An archive from disk to results: `classify` beside a plain loop over the same crops."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from cytodino.errors import EngineError
from cytodino_bench.peer_worker import quiet_environment
from cytodino_bench.peers_report import EndToEnd
from cytodino_bench.plain_loop import BATCH_SIZE
from cytodino_bench.programs import run_program

__all__ = ["compare_end_to_end"]


def compare_end_to_end(run: Path, bundle: Path, archive: Path, *, plain_crops: int) -> EndToEnd:
    """Classify an archive, and the first of its crops by a plain loop.

    The loop runs before and after, and its mean counts: a machine that slows down is fair to both.
    What fails is said in the result.

    Parameters
    ----------
    run : Path
    bundle : Path
    archive : Path
    plain_crops : int
        Crops that each of the two loops does.
    """
    classified = 0
    try:
        with tempfile.TemporaryDirectory(prefix="cytodino-bench-") as name:
            out = Path(name)
            before = _loop(run, archive, out, plain_crops)
            words = ("classify", archive, "--bundle", bundle, "--out", out / "results")
            run_program("cytodino-batch", *words)
            summary = json.loads(next((out / "results").rglob("summary.json")).read_text("utf-8"))
            after = _loop(run, archive, out, plain_crops)
        classified = summary["counts"]["classified"]
        speed = float(summary["run"]["crops_per_second"])
    except EngineError as error:
        return EndToEnd(
            archive=archive.name,
            crops=classified,
            crops_plain=plain_crops,
            plain=None,
            classify=None,
            ratio=None,
            failure=error.what,
        )
    plain = (before + after) / 2
    return EndToEnd(
        archive=archive.name,
        crops=classified,
        crops_plain=min(plain_crops, classified),
        plain=plain,
        classify=speed,
        ratio=speed / plain,
    )


def _loop(run: Path, archive: Path, folder: Path, count: int) -> float:
    """Crops a second of the plain loop."""
    words = [str(run.absolute()), str(archive.absolute()), str(folder / "plain.csv"), str(count)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cytodino_bench.plain_loop", *words],
        capture_output=True,
        text=True,
        errors="replace",
        env=quiet_environment(),
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise EngineError(
            f"the plain loop ended with {done.returncode}: {said[-1] if said else ''}"
        )
    speed = float(done.stdout.split()[-1])
    if not speed:
        raise EngineError(f"no more than {BATCH_SIZE} crops, the plain loop's first batch")
    return speed
