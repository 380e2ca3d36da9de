"""Measure what calibration is worth, whether promises hold, and whether another stain is noticed.

    python benchmarks/confidence.py runs/real/run-0 runs/real/run-1 --other ../shared/data/pbc \
        --out runs/confidence

Each RUN's logits on its calibration part and on its untouched test part, and on the cells of
another laboratory, are computed once in PyTorch and kept below --out. From them: ECE and
likelihood on the test part, raw and calibrated; the guaranteed threshold of the run's own
division; both parts put together and divided again 100 times, to see how often a promise was
broken, beside the threshold that one would read off the calibration cells; and whether the other
laboratory's cells, where the promise is expected to break, are called shifted. Prints Markdown and
replaces `benchmarks/results/confidence.json` and `.md`. Targets are fixed here, before any result.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from cytodino.calibration import FEWEST_CELLS, Targets
from cytodino.cells import CellSource, open_cells, require_labels
from cytodino.console import message
from cytodino.engines.pytorch import open_reference
from cytodino.inference import predict_cells
from cytodino.machine import describe_machine
from cytodino.paths import hash_file
from cytodino.run import open_run
from cytodino_bench.resampling import LabelledLogits, Resampling, Single, judge_split, resample

RESULTS = Path(__file__).parent / "results"
TARGETS = tuple(
    Targets(accuracy=accuracy, level=level)
    for level in (0.95, 0.9)
    for accuracy in (0.95, 0.9, 0.8, 0.7)
) + (Targets(accuracy=None, critical_rate=0.1, level=0.9),)
"""The default first; the others for models and samples too small for it."""


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--other", type=click.Path(exists=True, path_type=Path), help="Another stain.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Keeps the logits.")
@click.option("--rounds", default=100, show_default=True, help="Divisions for each target.")
@click.option(
    "--calibration-cells", type=click.IntRange(min=FEWEST_CELLS),
    help="Of both parts together, in the divisions.  [default: as many as the run's own]",
)  # fmt: skip
@click.option("--most", default=2000, show_default=True, help="Cells of the other stain.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder.")
def main(
    runs: tuple[Path, ...],
    other: Path | None,
    out: Path,
    rounds: int,
    calibration_cells: int | None,
    most: int,
    results: Path,
) -> None:
    """Measure what the confidence of trained RUNS is worth."""
    out.mkdir(parents=True, exist_ok=True)
    found = [_study(run, other, out, rounds, calibration_cells, most) for run in runs]
    machine = describe_machine().model_dump(mode="json")
    results.mkdir(parents=True, exist_ok=True)
    whole = {"runs": found, "other": other and other.name, "machine": machine}
    (results / "confidence.json").write_text(json.dumps(whole, indent=1) + "\n")
    text = "\n".join(_markdown(found)) + "\n"
    (results / "confidence.md").write_text(text)
    click.echo(text)


def _study(
    path: Path, other: Path | None, out: Path, rounds: int, wanted: int | None, most: int
) -> dict[str, Any]:
    run = open_run(path)
    cells = run.open_cells()
    calibration, test = (
        _logits(path, cells, run.rows(cells, part), out, part) for part in ("calibration", "test")
    )
    pool = calibration.join(test)
    count = wanted or len(calibration.labels)
    study: dict[str, Any] = {
        "run": path.name,
        "seed": run.manifest.split.seed if run.manifest.split else None,
        "calibration_cells": len(calibration.labels),
        "test_cells": len(test.labels),
        "accuracy": float((test.logits.argmax(axis=1) == test.labels).mean()),
        "own": [_with(targets, judge_split(calibration, test, targets)) for targets in TARGETS],
        "resampled": [
            resample(pool, count, targets, rounds=rounds).model_dump(mode="json")
            for targets in TARGETS
        ],
    }
    if other is not None:
        strange = open_cells(other)
        require_labels(strange)
        rows = np.sort(np.random.default_rng(0).permutation(len(strange))[:most])
        abroad = _logits(path, strange, rows, out, other.name)
        study["other"] = [
            _with(targets, judge_split(calibration, abroad, targets)) for targets in TARGETS
        ]
        study["other_accuracy"] = float((abroad.logits.argmax(axis=1) == abroad.labels).mean())
    return study


def _with(targets: Targets, single: Single) -> dict[str, Any]:
    return {"targets": targets.model_dump(mode="json"), **single.model_dump(mode="json")}


def _logits(run: Path, cells: CellSource, rows: np.ndarray, out: Path, name: str) -> LabelledLogits:
    """Compute a run's logits on some cells, or take those that were kept."""
    key = f"{hash_file(run / 'run.json')[:12]}-{name}-{cells.fingerprint()[:12]}-{len(rows)}"
    kept = out / f"{key}.npz"
    if not kept.exists():
        message(f"{run.name}: {len(rows)} cells, {name}")
        with open_reference(run, device="auto") as engine:
            logits = predict_cells(engine, cells, rows)
        np.savez(kept, logits=logits, rows=rows)
    with np.load(kept) as file:
        logits, rows = file["logits"], file["rows"]
    labels = require_labels(cells)[rows].astype(np.int64)
    return LabelledLogits(logits, labels, [cells.ids[row] for row in rows.tolist()])


def _markdown(found: list[dict[str, Any]]) -> Iterator[str]:
    yield "| run | accuracy | ECE raw → calibrated | NLL raw → calibrated | temperature |"
    yield "|---|---|---|---|---|"
    for study in found:
        own = study["own"][0]
        yield (
            f"| {study['run']} | {study['accuracy']:.3f} of {study['test_cells']} | "
            f"{own['ece_raw']:.4f} → {own['ece_calibrated']:.4f} | "
            f"{own['nll_raw']:.4f} → {own['nll_calibrated']:.4f} | {own['temperature']:.3f} |"
        )
    yield ""
    yield (
        "| run | promised | own division | given | broken | in the pool too | naive broken | "
        "in the pool too | accepted | false alarms |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for study in found:
        for own, again in zip(study["own"], study["resampled"], strict=True):
            yield _row(study["run"], own, Resampling.model_validate(again))
    yield ""
    if any("other" in study for study in found):
        heads = ("run, other stain", "accuracy", "promised", "accepted", "accuracy of these")
        more = ("kept", "distance", "allowed", "shift noticed")
        yield f"| {' | '.join((*heads, *more))} |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for study in (one for one in found if "other" in one):
            for one in study["other"]:
                yield _other_row(study, one)


def _row(run: str, own: dict[str, Any], again: Resampling) -> str:
    coverage = "–" if again.coverage is None else f"{again.coverage:.1%}"
    return (
        f"| {run} | {_promise(again.targets)} | {_outcome(own)} | {again.given} of "
        f"{again.rounds} | {again.broken} | {again.broken_clearly} | {again.naive_broken} of "
        f"{again.naive_given} | {again.naive_broken_clearly} | {coverage} | {again.false_alarms} |"
    )


def _other_row(study: dict[str, Any], one: dict[str, Any]) -> str:
    accuracy = "–" if one["accuracy"] is None else f"{one['accuracy']:.3f}"
    accepted = "–" if one["accepted"] is None else f"{one['accepted']} of {one['cells']}"
    kept = {None: "–", True: "yes", False: "no"}[one["held"]]
    return (
        f"| {study['run']} | {study['other_accuracy']:.3f} | "
        f"{_promise(Targets.model_validate(one['targets']))} | {accepted} | {accuracy} | {kept} | "
        f"{one['distance']:.3f} | {one['allowed']:.3f} | {'yes' if one['shifted'] else 'no'} |"
    )


def _promise(targets: Targets) -> str:
    said = [f"{kind} ≤ {limit:.0%}" for kind, limit in targets.limits.items()]
    return f"{', '.join(said)} at {targets.level:.0%}"


def _outcome(own: dict[str, Any]) -> str:
    if own["threshold"] is None:
        return "refused"
    right = "none" if own["accuracy"] is None else f"{own['accuracy']:.3f} right"
    return f"{own['accepted']} accepted, {right}, {'kept' if own['held'] else 'broken'}"


if __name__ == "__main__":
    main()
