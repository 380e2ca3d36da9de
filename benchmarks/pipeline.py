"""Measure `classify` with an engine that does nothing: peak memory, and rate against plain h5py.

Run ``python benchmarks/pipeline.py``; it takes some minutes and 2 GB in the temporary folder,
prints a table and replaces ``benchmarks/results/pipeline.json`` and the chart beside it. Cells are
synthetic, 250 x 250. Rates are of whole runs, from the archive's hash to the results on disk, in
interleaved rounds.
"""

import argparse
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
from numpy.typing import NDArray

from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.machine import cores_available
from cytodino.taxonomy import N_CLASSES
from cytodino_batch.batch_size import BatchChoice
from cytodino_batch.heap import share_one_heap
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.plan import plan_archives
from cytodino_batch.runner import classify_archives
from cytodino_batch.session import Session
from cytodino_batch.task import Task
from cytodino_bench.peak_memory import PeakMemory
from cytodino_bench.repeated_archive import SIZE, write_repeated
from cytodino_bench.result_charts import draw_pipeline, keep_result

ROUNDS, SLICE = 5, 64
FEW, MANY, TIMED = 2_000, 50_000, 4_000
RESULT = Path(__file__).parent / "results" / "pipeline.json"


class NullEngine(CheckedEngine):
    """Answers at once, every crop the same."""

    name, variant, device = "none", "fp32", "cpu"

    def _infer(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.tile(np.arange(N_CLASSES, dtype=np.float32), (len(crops), 1))

    def describe(self) -> EngineDescription:
        """Say that nothing computes."""
        return EngineDescription(
            engine=self.name, variant="fp32", device="cpu", provider="none", version="0", options={}
        )

    def _release(self) -> None:
        pass


def classify(path: Path, out: Path) -> None:
    """Classify an archive as the command does, with nothing for an engine."""
    session = Session(
        bundle=SimpleNamespace(path=Path("none"), sha256="0" * 64, manifest=None),
        engine=NullEngine(),
        batch=BatchChoice(8),
        golden=None,
    )
    options = ClassifyOptions(archives=(path,), bundle=Path("none"), out=out, parity="off")
    tasks = [Task(planned) for planned in plan_archives(options.archives, options.out)]
    (outcome,) = classify_archives(tasks, session, options)
    if outcome.exit_code:
        raise SystemExit(outcome.sentence())


def read_plainly(path: Path) -> None:
    """Read every crop as most tools do."""
    with h5py.File(path) as file:
        crops = file["crops"]
        for start in range(0, len(crops), SLICE):
            crops[start : start + SLICE]


def peak_memory(path: Path) -> float:
    """Peak resident memory of a process that classifies an archive and of its own, in MiB."""
    with subprocess.Popen([sys.executable, __file__, "--peak", str(path)]) as process:
        peak = PeakMemory(process.pid, every=0.005)
        process.wait()
        found = peak.stop()
    if process.returncode:
        raise SystemExit(f"ended with {process.returncode}")
    return found / 2**20


def compare_rates(path: Path) -> dict[str, float]:
    """Time both in turn, in one process, after a first round that warms the file's cache."""
    seconds: dict[str, list[float]] = {"h5py": [], "pipeline": []}
    out = path.with_suffix("")
    for turn in range(ROUNDS + 1):
        for name, work in (
            ("h5py", lambda: read_plainly(path)),
            ("pipeline", lambda: classify(path, out)),
        ):
            shutil.rmtree(out, ignore_errors=True)
            begun = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - begun)
    ratios = [h / p for h, p in zip(seconds["h5py"], seconds["pipeline"], strict=True)]
    return {
        "h5py_crops_per_second": round(TIMED / statistics.median(seconds["h5py"]), 1),
        "pipeline_crops_per_second": round(TIMED / statistics.median(seconds["pipeline"]), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_least": round(min(ratios), 2),
        "ratio_most": round(max(ratios), 2),
    }


def main() -> None:
    """Measure, print and keep."""
    found: dict[str, object] = {
        "machine": {"cores": cores_available(), "system": platform.platform()},
        "versions": {name: version(name) for name in ("h5py", "numpy")},
        "crops": f"{SIZE} x {SIZE} x 3, one a chunk",
        "rates": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        peaks = {}
        for rows in (FEW, MANY):
            path = Path(scratch) / f"{rows}.h5"
            write_repeated(path, rows, gzip=True, flat=True)
            peaks[rows] = round(peak_memory(path), 1)
            print(f"peak memory, {rows} crops: {peaks[rows]} MB")
            path.unlink()
        found["peak_memory_mb"] = peaks
        found["peak_memory_difference_mb"] = round(peaks[MANY] - peaks[FEW], 1)
        print(f"difference: {found['peak_memory_difference_mb']} MB")
        for name, gzip in (("gzip-4", True), ("uncompressed", False)):
            path = Path(scratch) / f"{name}.h5"
            write_repeated(path, TIMED, gzip=gzip)
            rates = compare_rates(path)
            found["rates"][name] = rates
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in rates.items()))
            path.unlink()
    keep_result(RESULT, found, draw_pipeline)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    share_one_heap()
    if given.peak:
        with tempfile.TemporaryDirectory() as folder:
            classify(given.peak, Path(folder) / "out")
    else:
        main()
