"""Measure `classify` by the archive's size: throughput with and without its start, and memory.

    python benchmarks/archive_size.py BUNDLE --out runs/archives

Archives of 100 to 10,000 drawn crops (64 different ones, repeated) are classified by the installed
program, engine and variant as they are chosen here. A start is paid once, whatever the archive
holds: the first figure says from which size on it no longer counts. Prints a table and replaces
`benchmarks/results/archive_size.json` and `.svg`. A ViT-S/16 takes some minutes on 2 cores.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from cytodino.console import message
from cytodino.machine import describe_machine
from cytodino_bench.repeated_archive import SIZE, write_repeated
from cytodino_bench.result_charts import draw_archive_size, keep_result

RESULT = Path(__file__).parent / "results" / "archive_size.json"
SIZES = (100, 300, 1_000, 3_000, 10_000)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="For the archives.")
@click.option("--model", default="ViT-S/16, random weights", help="What the chart calls it.")
def main(bundle: Path, out: Path, model: str) -> None:
    """Measure BUNDLE with archives of all sizes."""
    out.mkdir(parents=True, exist_ok=True)
    archives: dict[str, Any] = {}
    engine: dict[str, Any] = {}
    for turn, n in enumerate((SIZES[0], *SIZES)):
        path = out / f"{n}.h5"
        if not path.exists():
            write_repeated(path, n, gzip=True)
        message(f"classifying {n:,} crops" + ("" if turn else ", to warm up"))
        archives[str(n)], engine = classify(path, bundle)
    found = {
        "machine": describe_machine().model_dump(mode="json"),
        "model": model,
        "crops": f"{SIZE} x {SIZE} px, gzip",
        "engine": engine,
        "archives": archives,
    }
    keep_result(RESULT, found, draw_archive_size)
    click.echo(f"{'crops':>8}{'seconds':>10}{'whole/s':>10}{'classify/s':>12}{'peak MB':>10}")
    for name, entry in archives.items():
        click.echo(
            f"{int(name):8,}{entry['seconds']:10.1f}{entry['whole']:10.1f}"
            f"{entry['classify']:12.1f}{entry['peak_mb']:10.0f}"
        )


def classify(path: Path, bundle: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Run the program on an archive; return its figures, and the engine that computed."""
    with tempfile.TemporaryDirectory(prefix="cytodino-bench-") as name:
        program = str(Path(sys.executable).parent / "cytodino-batch")
        words = [program, "classify", str(path), "--bundle", str(bundle), "--out", name]
        begun = time.perf_counter()
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begun
        if child.returncode:
            raise click.ClickException(f"{' '.join(words)} ended with {child.returncode}")
        summary = json.loads(next(Path(name).rglob("summary.json")).read_text("utf-8"))
    n = summary["counts"]["classified"]
    figures = {
        "seconds": round(seconds, 2),
        "whole": round(n / seconds, 2),
        "classify": summary["run"]["crops_per_second"],
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
    }
    return figures, summary["provenance"]["engine"]


if __name__ == "__main__":
    main()
