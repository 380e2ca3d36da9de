"""Measure how fast the results of 50,000 crops are written, and what memory that takes.

Run ``python benchmarks/results_writing.py``; it takes some seconds, prints a table and replaces
``benchmarks/results/results_writing.json``. The ways take turns, and the fastest of each counts.
"""

import csv
import json
import platform
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cytodino.taxonomy import CODES
from cytodino_batch.classification import Classification
from cytodino_batch.differential import count_differential
from cytodino_batch.parquet import write_predictions_parquet
from cytodino_batch.results import PREDICTIONS_HEADER, write_predictions_csv, write_predictions_h5
from cytodino_batch.review import list_review

ROWS = 50_000
FEW_ROWS = 2_000
ROUNDS = 5
RESULT = Path(__file__).parent / "results" / "results_writing.json"


def draw_result(n: int) -> Classification:
    """Draw the classification of n crops from a seed."""
    generator = np.random.default_rng(0)
    return Classification(
        rows=np.arange(n),
        logits=generator.normal(0, 3, (n, len(CODES))).astype(np.float32),
        quarantined=(),
        ids=[f"slide-7/field_{row // 100:05d}/cell_{row:07d}.png" for row in range(n)],
        coords=generator.integers(0, 100_000, (n, 2)),
        review_below=0.5,
    )


def write_line_by_line(path: Path, result: Classification) -> None:
    """Write the same bytes as `write_predictions_csv`, one line after the other."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PREDICTIONS_HEADER)
        for position, row in enumerate(result.rows):
            best, second = result.ranking[position]
            x, y = result.coords[row] if result.coords is not None else ("", "")
            confidence = f"{result.confidence[position]:.6f}"
            flags = int(result.critical[position]), int(result.review[position])
            name = result.ids[row]
            writer.writerow((row, name, x, y, CODES[best], confidence, CODES[second], *flags))


def summarise(_: Path, result: Classification) -> None:
    """Count and rank, as for `summary.json`."""
    count_differential(result.ranking[:, 0], unclassified=0)
    list_review(result)


WAYS: dict[str, Callable[[Path, Classification], None]] = {
    "predictions.csv, line by line": write_line_by_line,
    "predictions.csv": write_predictions_csv,
    "predictions.h5": lambda path, result: write_predictions_h5(path, result, {}),
    "predictions.parquet": lambda path, result: write_predictions_parquet(path, result, {}),
    "differential and review": summarise,
}


def measure_rates(result: Classification, folder: Path) -> dict[str, int]:
    """Time each way by turns; rows a second of the fastest turn."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, write in WAYS.items():
            begun = time.perf_counter()
            write(folder / "file", result)
            seconds[name].append(time.perf_counter() - begun)
    return {name: round(len(result.rows) / min(times)) for name, times in seconds.items()}


def measure_peak(rows: int, folder: Path) -> float:
    """MB that Python and numpy take at most beyond the classification itself."""
    result = draw_result(rows)
    tracemalloc.start()
    write_predictions_csv(folder / "file", result)
    write_predictions_h5(folder / "file", result, {})
    summarise(folder, result)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 1e6, 1)


def main() -> None:
    """Measure, print and keep."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, drawn = Path(scratch), draw_result(ROWS)
        write_line_by_line(folder / "one", drawn)
        write_predictions_csv(folder / "other", drawn)
        same = (folder / "one").read_bytes() == (folder / "other").read_bytes()
        found = {
            "rows": ROWS,
            "rows_per_second": measure_rates(drawn, folder),
            "csv_bytes_equal": same,
            "peak_mb": {str(n): measure_peak(n, folder) for n in (FEW_ROWS, ROWS)},
            "machine": platform.machine(),
            "versions": {name: version(name) for name in ("h5py", "numpy", "pyarrow")},
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
