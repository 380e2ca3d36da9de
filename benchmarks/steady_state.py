"""Measure what `classify` keeps of the engine's own speed, and how soon it begins.

    python benchmarks/steady_state.py BUNDLE ARCHIVE... [--rounds N]

For each archive, by turns: the engine alone on crops in memory, and the pipeline from the archive,
counted from the end of its first block to its last crop. Then the installed program twice: what it
takes before the first archive is opened (imports, compiling, the golden check), where the second
time is the one that counts, as the first may fill the cache of compiled models. Prints a table and
replaces `benchmarks/results/steady_state.json`.
"""

import json
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

import click
import numpy as np

from cytodino.archive import Archive, open_archive
from cytodino.machine import describe_machine
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.session import Session, open_session
from cytodino_batch.stream import classify_rows
from cytodino_bench.programs import run_program

RESULT = Path(__file__).parent / "results" / "steady_state.json"
IN_MEMORY = 512
"""Crops that the engine is given without an archive, a turn."""


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.argument("archives", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=4, type=click.IntRange(min=1))
def main(bundle: Path, archives: tuple[Path, ...], rounds: int) -> None:
    """Measure ARCHIVES with BUNDLE's engine as it is chosen here."""
    options = ClassifyOptions(archives=archives, bundle=bundle, out=Path("unused"), parity="off")
    with open_session(options) as session:
        engine = session.engine.describe().model_dump(mode="json")
        found = {path.name: compare(session, path, rounds) for path in archives}
    report = {
        "machine": describe_machine().model_dump(mode="json"),
        "engine": engine,
        "archives": found,
        "start_seconds": [start_up(bundle, archives[0]) for _ in range(2)],
    }
    RESULT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name, record in found.items():
        click.echo(
            f"{name}: engine {record['engine']:.1f}, pipeline {record['pipeline']:.1f} crops/s, "
            f"share {record['share']:.3f} ({record['least']:.3f} to {record['most']:.3f})"
        )
    first, second = report["start_seconds"]
    click.echo(f"start-up: {first:.1f} s, the second time {second:.1f} s")


def compare(session: Session, path: Path, rounds: int) -> dict[str, float]:
    """Crops a second of the engine and of the pipeline, by turns after one to warm up."""
    alone, whole, shares = [], [], []
    with open_archive(path) as archive:
        crops = np.stack([archive.read(row, row + 1)[0] for row in range(min(256, archive.n))])
        for turn in range(rounds + 1):
            engine = time_engine(session, crops)
            pipeline = time_pipeline(session, archive)
            if turn:
                alone.append(engine)
                whole.append(pipeline)
                shares.append(pipeline / engine)
    return {
        "engine": round(statistics.median(alone), 2),
        "pipeline": round(statistics.median(whole), 2),
        "share": round(statistics.median(shares), 4),
        "least": round(min(shares), 4),
        "most": round(max(shares), 4),
    }


def time_engine(session: Session, crops: np.ndarray) -> float:
    """Crops a second of the engine alone, uint8 (n, h, w, 3) given in the run's batches."""
    size, done = session.batch_size, 0
    begun = time.perf_counter()
    while done < IN_MEMORY:
        for start in range(0, len(crops), size):
            done += len(session.engine.logits(crops[start : start + size]))
    return done / (time.perf_counter() - begun)


def time_pipeline(session: Session, archive: Archive) -> float:
    """Crops a second from the end of the first block to the last crop."""
    done, since = 0, 0.0
    for block in classify_rows(archive, session.engine, batch_size=session.batch_size):
        if since:
            done += len(block.rows)
        else:
            since = time.perf_counter()
    return done / (time.perf_counter() - since)


def start_up(bundle: Path, archive: Path) -> float:
    """Seconds from the program's start to the first archive's."""
    begun = time.time()
    with tempfile.TemporaryDirectory(prefix="cytodino-bench-") as name:
        out = Path(name)
        run_program("cytodino-batch", "classify", archive, "--bundle", bundle, "--out", out)
        summary = json.loads(next(out.rglob("summary.json")).read_text("utf-8"))
    return round(datetime.fromisoformat(summary["run"]["started"]).timestamp() - begun, 2)


if __name__ == "__main__":
    main()
