"""Measure what an export costs in time and memory, by size of the model.

    python benchmarks/export_cost.py --backbone large --out runs/cost

Weights are random, the adapter of rank 64 too; cells are drawn. The command that a user would give
makes FP32, FP16 and INT8 under GNU `time -v`; the seconds of its steps come from the lines it says,
and beside the largest process stands the largest sum over all its processes, seen twice a second.
Exporting and quantising are one sum, the gate another: it judges 32 crops, on which nothing is
proven, so the export ends with 4 and is kept for study. Prints the table and replaces this
backbone's entry in `benchmarks/results/export_cost.json`; the chart beside it shows all of them.
"""

import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cytodino.machine import describe_machine
from cytodino_bench.peak_memory import PeakMemory
from cytodino_bench.random_run import SEED, draw_cells, write_run
from cytodino_bench.result_charts import draw_export_cost, keep_result

RESULT = Path(__file__).parent / "results" / "export_cost.json"
CALIBRATION, TUNING, JUDGED = 8, 8, 32

STEPS = (
    ("reading cells", "reading"),
    ("PyTorch,", "reference"),
    ("merging", "merging and folding"),
    ("exporting", "exporting"),
    ("converting", "exporting"),
    ("quantising", "quantising"),
    ("reading", "quantising"),
    ("measuring", "gate"),
    ("timing", "gate"),
    ("writing", "writing"),
)
"""Step by the beginning of the line that says it; other lines belong to the step around them."""

EXPORT_STEPS = ("merging and folding", "exporting", "quantising", "writing")


@click.command()
@click.option("--backbone", default="large", type=click.Choice(["tiny", "small", "base", "large"]))
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(backbone: str, out: Path) -> None:
    """Export a random model of one size and write down what that cost."""
    cells, run, bundle = (out / f"{backbone}-{name}" for name in ("cells", "run", "bundle"))
    draw_cells(cells)
    write_run(run, cells, backbone)
    judged = out / f"{backbone}-judged"
    draw_cells(judged, count=JUDGED, seed=SEED + 1)
    seconds, text, code, together = export(run, bundle, judged)
    if code not in (0, 4):
        raise click.ClickException(f"the export ended with {code}:\n{text}")
    entry = {
        "steps_seconds": seconds,
        "export_minutes": round(sum(seconds.get(step, 0) for step in EXPORT_STEPS) / 60, 2),
        "gate_minutes": round(seconds.get("gate", 0) / 60, 2),
        "all_minutes": round(sum(seconds.values()) / 60, 2),
        "peak_gib": round(peak_kib(text) / 2**20, 2),
        "peak_together_gib": round(together / 2**30, 2),
        "bundle_mb": {
            path.name: round(path.stat().st_size / 1e6) for path in bundle.glob("*.onnx*")
        },
        "cells": {"calibration": CALIBRATION, "tuning": TUNING, "judged": JUDGED},
        "exit_code": code,
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine().model_dump(mode="json"),
    }
    results: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results[backbone] = entry
    keep_result(RESULT, results, draw_export_cost)
    click.echo(f"{'step':22} seconds")
    for step, taken in seconds.items():
        click.echo(f"{step:22} {taken:7.1f}")
    click.echo(
        f"exported and quantised in {entry['export_minutes']} min, "
        f"gate {entry['gate_minutes']} min; "
        f"largest process {entry['peak_gib']} GiB, all together {entry['peak_together_gib']} GiB"
    )


def export(run: Path, bundle: Path, judged: Path) -> tuple[dict[str, float], str, int, int]:
    """Run the command; return the seconds of each step, what it said, its exit code, peak bytes."""
    command = [
        "time", "-v", str(Path(sys.executable).parent / "cytodino-export"), "onnx", str(run),
        "--out", str(bundle), "--data", str(judged), "--golden", str(judged),
        "--precision", "fp32", "--precision", "fp16", "--precision", "int8",
        "--calibration-cells", str(CALIBRATION), "--tuning-cells", str(TUNING),
        "--max-cells", str(JUDGED), "--allow-failing",
    ]  # fmt: skip
    seconds: defaultdict[str, float] = defaultdict(float)
    said: list[str] = []
    step, began = "starting", time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        peak = PeakMemory(process.pid)
        for line in process.stderr:
            said.append(line)
            click.echo(line.rstrip(), err=True)
            following = next((name for text, name in STEPS if line.startswith(text)), step)
            now = time.monotonic()
            seconds[step] += now - began
            step, began = following, now
    taken = {name: round(spent, 1) for name, spent in seconds.items()}
    return taken, "".join(said), process.returncode, peak.stop()


def peak_kib(text: str) -> int:
    """Peak resident memory of the largest process, in KiB, from what GNU time said."""
    found = re.search(r"Maximum resident set size \(kbytes\): (\d+)", text)
    if found is None:
        raise click.ClickException("needs GNU time: apt install time")
    return int(found[1])


if __name__ == "__main__":
    main()
