"""Reach the verdict of every variant on real cells, once for each seed of `real_data.py`.

    python benchmarks/real_variants.py ../shared/data --out runs/real

Takes the bases and runs that `benchmarks/real_data.py` left in OUT. Each run is exported in all
precisions and judged twice: by the untouched test part of `bmc/`, on which it was tuned, and by the
test part of `pbc/`, which is another laboratory's stain and camera (there only agreement with
PyTorch is the question). Prints a table and replaces `benchmarks/results/real_variants.json`.
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from cytodino.machine import describe_machine

RESULT = Path(__file__).parent / "results" / "real_variants.json"
SEEDS = (0, 1, 2)
PRECISIONS = ("fp32", "fp16", "int8")

Record = dict[str, Any]


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(exists=True, path_type=Path))
def main(data: Path, out: Path) -> None:
    """Export the runs in OUT in every precision, DATA holding bmc/ and pbc/."""
    records = []
    for seed in SEEDS:
        other = out / f"pbc-test-{seed}.h5"
        if not other.exists():
            base = out / f"base-{seed}"
            words = (data / "pbc", other, "--run", base, "--part", "test")
            run_command("cytodino", "pack", *words)
        for name, judged in (("bmc", ()), ("pbc", ("--data", other))):
            bundle = out / f"variants-{name}-{seed}"
            if not bundle.exists():
                export(out / f"run-{seed}", bundle, *judged)
            records += read_verdicts(bundle, cells=name, seed=seed)
    report = {"machine": describe_machine().model_dump(mode="json"), "verdicts": records}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(records)


def export(run: Path, bundle: Path, *judged: str | Path) -> None:
    """Export a run in every precision; what is refused is kept, to say why."""
    precisions = [word for name in PRECISIONS for word in ("--precision", name)]
    words = ("--out", bundle, *precisions, *judged, "--allow-failing")
    run_command("cytodino-export", "onnx", run, *words, accept=(0, 4))


def run_command(program: str, *words: str | Path, accept: tuple[int, ...] = (0,)) -> None:
    """Run one of the installed programs, and say it."""
    command = [str(Path(sys.executable).parent / program), *map(str, words)]
    click.echo(" ".join([program, *command[1:]]), err=True)
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode not in accept:
        raise click.ClickException(f"{program} ended with {result.returncode}: {result.stderr}")


def read_verdicts(bundle: Path, *, cells: str, seed: int) -> list[Record]:
    """Read what the gate found of each variant on each engine that is here."""
    chain = json.loads((bundle / "parity.json").read_text())
    records = []
    for result in chain["variants"]:
        if not result["links"]:
            continue  # a GPU that is not here
        report = result["links"][0]["report"]
        records.append(
            {
                "cells": cells,
                "seed": seed,
                "variant": result["variant"],
                "engine": result["verdict"]["engine"],
                "verdict": result["verdict"]["verdict"],
                "reasons": result["verdict"]["reasons"],
                "n": report["n"],
                "agreement": report["agreement"],
                "flips": len(report["flips"]),
                "largest_margin_flipped": max(
                    (flip["margin"] for flip in report["flips"]), default=0.0
                ),
                "probability_max": report["probability_max"],
                "speed": result["speed"],
            }
        )
    return records


def show(records: list[Record]) -> None:
    """Print a line for each variant, engine and set of cells, the seeds side by side."""
    lines: defaultdict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        lines[record["cells"], record["variant"], record["engine"]].append(record)
    click.echo("| cells | variant | engine | verdict | agreement, % | flips | max \\|Δp\\| |")
    click.echo("|---|---|---|---|---|---|---|")
    for key, found in lines.items():
        columns = (
            ", ".join(record["verdict"] for record in found),
            ", ".join(f"{100 * record['agreement']:.2f}" for record in found),
            ", ".join(str(record["flips"]) for record in found),
            ", ".join(f"{record['probability_max']:.2g}" for record in found),
        )
        click.echo("| " + " | ".join((*key, *columns)) + " |")
    for record in records:
        for reason in record["reasons"]:
            where = f"{record['cells']}, seed {record['seed']}"
            click.echo(f"{where}: {record['variant']} on {record['engine']}: {reason}")


if __name__ == "__main__":
    main()
