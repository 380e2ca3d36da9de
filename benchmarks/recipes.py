r"""Train the published recipe and plain cross-entropy on real cells, with the same budget.

    python benchmarks/recipes.py ../shared/data/bmc --out runs/recipes \
        --base 'runs/real/base-{seed}'

For each seed, LoRA on an earlier run by `--recipe cytodino`, scaled to a small model (steps of 16
cells in one go), and by `--recipe plain`. The budget is the number of cells seen: `cytodino` sees
each twice an epoch, so it gets half of the epochs; neither stops early, and of each the epoch of
the best weighted F1 on the validation part is scored once on the test part. Every step is the
command that a user would give; a run that is there is not trained again, and one that was
interrupted goes on. Prints a table in Markdown and replaces `benchmarks/results/recipes.json`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click

from cytodino.machine import describe_machine
from cytodino.run import open_run
from cytodino.run_manifest import MANIFEST
from cytodino.taxonomy import CRITICAL

RESULT = Path(__file__).parent / "results" / "recipes.json"
RECIPES = ("cytodino", "plain")
BATCH = ("--batch-size", "16", "--accumulation", "1")
FIGURES = ("weighted_f1", "macro_f1", "accuracy", "critical_errors")

Record = dict[str, Any]


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--base", required=True, help="Run to build on; {seed} stands for each seed.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the runs.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option(
    "--epochs",
    type=click.IntRange(min=2),
    default=16,
    show_default=True,
    help="Of plain; cytodino gets half.",
)
@click.option("--result", default=RESULT, show_default=True, type=click.Path(path_type=Path))
def main(data: Path, base: str, out: Path, seeds: str, epochs: int, result: Path) -> None:
    """Compare the two recipes on the labelled cells of DATA."""
    out.mkdir(parents=True, exist_ok=True)
    records = []
    for seed in map(int, seeds.split(",")):
        for recipe in RECIPES:
            run = out / f"{recipe}-{seed}"
            train(run, data, Path(base.format(seed=seed)), recipe, seed, epochs)
            records.append({"seed": seed, "recipe": recipe} | read(run))
    report = {
        "machine": describe_machine().model_dump(mode="json"),
        "data": data.name,
        "epochs": {"cytodino": epochs // 2, "plain": epochs},
        "options": " ".join(BATCH),
        "runs": records,
        "summary": {recipe: summarise(records, recipe) for recipe in RECIPES},
    }
    result.parent.mkdir(exist_ok=True)
    result.write_text(json.dumps(report, indent=2) + "\n")
    click.echo("\n".join(table(records)))


def train(run: Path, data: Path, base: Path, recipe: str, seed: int, epochs: int) -> None:
    """Train one run, unless it is there."""
    if (run / MANIFEST).is_file():
        return
    own = epochs // 2 if recipe == "cytodino" else epochs
    words = [
        str(Path(sys.executable).with_name("cytodino")), "train", str(data), "--out", str(run),
        "--backbone", str(base), "--tune", "lora", "--recipe", recipe, *BATCH, "--seed", str(seed),
        "--epochs", str(own), "--patience", str(own), "--resume",
    ]  # fmt: skip
    click.echo(" ".join([Path(words[0]).name, *words[1:]]), err=True)
    done = subprocess.run(words, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise click.ClickException(f"training ended with {done.returncode}")


def read(path: Path) -> Record:
    """Read what came out of a run, on its untouched test part."""
    manifest = open_run(path).manifest
    assert manifest.recipe is not None and manifest.split is not None
    found = manifest.metrics["test"].scores
    counts = manifest.split.counts["test"]
    return {
        "cells": found.n,
        "critical_cells": sum(n for code, n in counts.items() if code in CRITICAL),
        "weighted_f1": found.weighted_f1,
        "macro_f1": found.macro_f1,
        "accuracy": found.accuracy,
        "critical_errors": found.critical_errors.count,
        "best_epoch": manifest.best_epoch,
        "cells_seen": len(manifest.history)
        * sum(manifest.split.counts["train"].values())
        * (1 if manifest.recipe.extra_draws is None else 2),
        "seconds": manifest.seconds,
    }


def summarise(records: list[Record], recipe: str) -> Record:
    """Return mean and standard deviation of each figure over the seeds."""
    summary: Record = {}
    for name in FIGURES:
        values = [record[name] for record in records if record["recipe"] == recipe]
        spread = stdev(values) if len(values) > 1 else None
        summary[name] = {"mean": mean(values), "standard_deviation": spread}
    return summary


def table(records: list[Record]) -> list[str]:
    """Return lines of Markdown: each run, then mean and spread of each recipe."""
    lines = [
        "| recipe | seed | weighted F1 | macro F1 | accuracy | critical errors | cells seen |",
        "|---|---|---|---|---|---|---|",
    ]
    for recipe in RECIPES:
        own = [record for record in records if record["recipe"] == recipe]
        for record in own:
            scores = " | ".join(f"{record[name]:.3f}" for name in FIGURES[:3])
            errors = f"{record['critical_errors']} of {record['critical_cells']}"
            lines.append(
                f"| {recipe} | {record['seed']} | {scores} | {errors} | {record['cells_seen']:,} |"
            )
        found = summarise(records, recipe)
        scores = " | ".join(_spread(found[name], 3) for name in FIGURES[:3])
        errors = _spread(found["critical_errors"], 1)
        lines.append(f"| **{recipe}** | mean (sd) | {scores} | {errors} | |")
    return lines


def _spread(found: Record, digits: int) -> str:
    spread = found["standard_deviation"]
    shown = f"{found['mean']:.{digits}f}"
    return shown if spread is None else f"{shown} ({spread:.{digits}f})"


if __name__ == "__main__":
    main()
