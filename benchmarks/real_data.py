"""Train, export and classify real cells from one end to the other, once for each seed.

    python benchmarks/real_data.py ../shared/data --out runs/real

A base is trained from scratch on the training part of `pbc/`, LoRA on that of `bmc/`, the run is
exported, its untouched test part packed and classified in an environment without torch, and what
came out there is held against PyTorch cell by cell. Every step is the command that a user would
give; one that is done already is not done again. Prints a table and replaces
`benchmarks/results/real_data.json`. Seeds and options are fixed here, before any result is seen.
"""

import csv
import json
import os
import subprocess
import sys
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
import h5py
import numpy as np

from cytodino.archive import open_archive
from cytodino.cells import open_cells, require_labels
from cytodino.inference import predict_cells
from cytodino.machine import cores_available, describe_machine
from cytodino.metrics import score
from cytodino.parity import margin_of
from cytodino.run import open_run
from cytodino.statistics import softmax
from cytodino.taxonomy import CODES

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "real_data.json"
SEEDS = (0, 1, 2)
BASE = ("--backbone", "tiny", "--tune", "full", "--image-size", "96", "--epochs", "24")
LORA = ("--tune", "lora", "--epochs", "16")
CLEAR = 0.001
"""Margin above which every decision has to be PyTorch's."""

Record = dict[str, Any]


class Steps:
    """Runs commands, says them, and keeps how long each took, in seconds."""

    def __init__(self, seed: int, out: Path, threads: int) -> None:
        self.seed = seed
        self._record = out / f"seconds-{seed}.json"
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.seconds: dict[str, float] = {}
        if self._record.exists():
            self.seconds = json.loads(self._record.read_text())

    def run(self, name: str, made: Path, *command: str | Path) -> None:
        """Run a command unless what it makes is there."""
        if made.exists() and name in self.seconds:
            return
        words = [str(word) for word in command]
        click.echo(f"seed {self.seed}: {' '.join([Path(words[0]).name, *words[1:]])}", err=True)
        began = time.perf_counter()
        result = subprocess.run(words, env=self._environment, capture_output=True, text=True)
        self.seconds[name] = round(time.perf_counter() - began, 1)
        if result.returncode:
            raise click.ClickException(f"{name} ended with {result.returncode}: {result.stderr}")
        self._record.write_text(json.dumps(self.seconds))


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--jobs", default=1, show_default=True, help="Seeds at a time; they share the cores.")
def main(data: Path, out: Path, jobs: int) -> None:
    """Measure the whole way on real cells, DATA holding bmc/ and pbc/."""
    out.mkdir(parents=True, exist_ok=True)
    edge = make_edge_box(out / "edge")
    threads = max(1, cores_available() // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        seconds = list(pool.map(lambda seed: go_the_way(seed, data, out, edge, threads), SEEDS))
    # One after the other: transformers builds models under a device that all threads share.
    records = [
        {"seed": seed, "seconds": taken} | compare(seed, out)
        for seed, taken in zip(SEEDS, seconds, strict=True)
    ]
    report = {
        "machine": describe_machine().model_dump(mode="json"),
        "base": " ".join(BASE),
        "lora": " ".join(LORA),
        "jobs": jobs,
        "threads": threads,
        "seeds": records,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    show(records)


def make_edge_box(folder: Path) -> Path:
    """Make an environment with the base and [cpu] alone, and return its scripts."""
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    if not (scripts / "cytodino-batch").exists():
        venv.create(folder, with_pip=True)
        subprocess.run(
            [scripts / "python", "-m", "pip", "install", "--quiet", f"{ROOT}[cpu]"], check=True
        )
    probe = subprocess.run([scripts / "python", "-c", "import torch"], capture_output=True)
    assert probe.returncode, "the edge box has torch"
    return scripts


def go_the_way(seed: int, data: Path, out: Path, edge: Path, threads: int) -> dict[str, float]:
    """Go the whole way with one seed; return how long each step took, in seconds."""
    here = Path(sys.executable).parent
    base, run, bundle = (out / f"{name}-{seed}" for name in ("base", "run", "bundle"))
    archive, results = out / f"test-{seed}.h5", out / f"results-{seed}"
    cytodino, export, batch = here / "cytodino", here / "cytodino-export", edge / "cytodino-batch"
    common = ("--seed", str(seed))
    steps = Steps(seed, out, threads)
    steps.run("base", base, cytodino, "train", data / "pbc", "--out", base, *BASE, *common)
    words = (data / "bmc", "--out", run, "--backbone", base, *LORA, *common)
    steps.run("lora", run, cytodino, "train", *words)
    steps.run("export", bundle, export, "onnx", run, "--out", bundle)
    words = (data / "bmc", archive, "--run", run, "--part", "test")
    steps.run("pack", archive, cytodino, "pack", *words)
    words = (archive, "--bundle", bundle, "--out", results)
    steps.run("classify", results, batch, "classify", *words)
    return steps.seconds


def compare(seed: int, out: Path) -> Record:
    """Score what the edge box said, and hold it against PyTorch cell by cell."""
    from cytodino.engines.pytorch import open_reference

    run, archive = out / f"run-{seed}", out / f"test-{seed}.h5"
    results = out / f"results-{seed}" / archive.stem
    cells = open_cells(archive)
    labels = require_labels(cells)
    with open_archive(archive) as opened:
        assert opened.n == len(open_run(run).split["test"])
    with (results / "predictions.csv").open(newline="") as file:
        said = np.array([CODES.index(line["label"]) for line in csv.DictReader(file)])
    with h5py.File(results / "predictions.h5") as file:
        # From the logits: probabilities are calibrated where the bundle is.
        probabilities = softmax(np.asarray(file["logits"]))
    with open_reference(run) as engine:
        reference = softmax(predict_cells(engine, cells, np.arange(len(cells))))
    clear = margin_of(reference) > CLEAR
    differs = said != reference.argmax(axis=1)
    scores = score(labels, said)
    return {
        "cells": len(said),
        "accuracy": scores.accuracy,
        "weighted_f1": scores.weighted_f1,
        "macro_f1": scores.macro_f1,
        "critical_errors": scores.critical_errors.count,
        "clear_cells": int(clear.sum()),
        "clear_flips": int((differs & clear).sum()),
        "flips": int(differs.sum()),
        "max_probability_change": float(np.abs(probabilities - reference).max()),
    }


def show(records: list[Record]) -> None:
    """Print a line for each seed, and mean and spread of the scores."""
    names = ("accuracy", "weighted_f1", "macro_f1")
    click.echo("seed  " + "  ".join(f"{name:>11}" for name in names) + "  flips  max |dp|  minutes")
    for record in records:
        figures = "  ".join(f"{record[name]:11.4f}" for name in names)
        click.echo(
            f"{record['seed']:4}  {figures}  {record['clear_flips']:5}  "
            f"{record['max_probability_change']:8.1e}  {sum(record['seconds'].values()) / 60:7.1f}"
        )
    for name in names:
        values = [record[name] for record in records]
        click.echo(f"{name}: mean {mean(values):.4f}, standard deviation {stdev(values):.4f}")


if __name__ == "__main__":
    main()
