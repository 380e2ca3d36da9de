"""Measure how long a training takes to start on many images, and in what memory an epoch is read.

    python benchmarks/training_data.py                     # 3,000 tiny images, seconds
    python benchmarks/training_data.py --cells 171374      # as many as the published set has

Images are noise of 24 x 24 pixels in the layout of the published set, drawn from a seed, as a
folder and as the archive packed from it: what is measured is what depends on their number. Each
start is a process of its own, timed without its imports. Prints a table and replaces
`benchmarks/results/training_data.json`.
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
import numpy as np
import psutil
from PIL import Image

from cytodino.archive.packing import pack
from cytodino.cell_index import SETTLED_NS
from cytodino.cells import open_cells
from cytodino.machine import describe_machine
from cytodino.taxonomy import CODES

RESULT = Path(__file__).parent / "results" / "training_data.json"
SIDE = 24
SIZE = 32
"""Pixels that the model sees, on a side."""
BATCH = 64

Record = dict[str, Any]


@click.command()
@click.option("--cells", default=3_000, show_default=True, type=click.IntRange(min=21))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=0))
@click.option("--work", type=click.Path(path_type=Path), help="Keep the images here.")
def main(cells: int, workers: int, work: Path | None) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as temporary:
        place = work or Path(temporary)
        images, archive = place / f"images-{cells}", place / f"images-{cells}.h5"
        write_images(images, cells)
        if not archive.exists():
            pack(images, archive)
        time.sleep(SETTLED_NS / 1e9 + 1)  # what was written just now is not remembered
        os.environ["XDG_CACHE_HOME"] = str(Path(temporary) / "cache")
        records = {}
        for source in (images, archive):
            first, second = (start(source) for _ in range(2))
            memory = start(source, workers)
            records["folder" if source is images else "archive"] = {
                "first_start_seconds": first["seconds"],
                "second_start_seconds": second["seconds"],
                "start_memory_mb": second["memory_mb"],
                "epoch": memory,
            }
    report = {
        "machine": describe_machine().model_dump(mode="json"),
        "cells": cells,
        "workers": workers,
        "sources": records,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    show(report)


def write_images(folder: Path, count: int) -> None:
    """Write images by class in thousands, unless they are there."""
    if folder.exists():
        return
    generator = np.random.default_rng(0)
    for number in range(count):
        code = CODES[number % len(CODES)]
        place = number // len(CODES)
        below = folder / code / f"{place // 1000 * 1000 + 1:04}-{place // 1000 * 1000 + 1000:04}"
        if place % 1000 == 0:
            below.mkdir(parents=True)
        pixels = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(below / f"{code}_{place + 1:05}.jpg", quality=90)


def start(source: Path, workers: int | None = None) -> Record:
    """Do in a process of its own what `measure` does."""
    words = [sys.executable, __file__, "measure", str(source)]
    words += [] if workers is None else [str(workers)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def measure(source: Path, workers: int | None) -> Record:
    """Open, divide and examine cells as a training does; with workers, read an epoch of them."""
    from cytodino.training.duplicates import refuse_duplicates
    from cytodino.training.examination import read_all
    from cytodino.training.observer import Observer
    from cytodino.training.parts import divide

    began = time.perf_counter()
    cells = open_cells(source)
    divided = divide(cells, seed=0)
    refuse_duplicates(divided, read_all(cells, Observer()))
    cells.fingerprint()
    if workers is None:
        return {"seconds": round(time.perf_counter() - began, 2), "memory_mb": memory_mb()}
    return read_epoch(divided, workers)


def read_epoch(divided: Any, workers: int) -> Record:
    """Read an epoch through the Trainer's kind of loader, and look at the memory on the way."""
    from torch.utils.data import DataLoader

    from cytodino.modeling.preprocessing import Preprocess
    from cytodino.recipe import Augmentation
    from cytodino.training.augmentation import Augment
    from cytodino.training.data import CellDataset, EpochSampler

    rows = divided.rows("train")
    labels = divided.labels[rows]
    dataset = CellDataset(
        divided.cells, rows, labels, Preprocess(SIZE), Augment(Augmentation(), SIZE)
    )
    loader = DataLoader(
        dataset, batch_size=BATCH, sampler=EpochSampler(len(rows), 0), num_workers=workers
    )
    steps = len(loader)
    looks = {max(1, round(steps * share)) for share in (0.25, 0.5, 0.75, 1.0)}
    found = []
    began = time.perf_counter()
    for step, _ in enumerate(loader, start=1):
        if step in looks:
            found.append(memory_mb())
    seconds = time.perf_counter() - began
    return {
        "cells": len(rows),
        "cells_a_second": round(len(rows) / seconds),
        "memory_mb_at_quarters": found,
    }


def memory_mb() -> int:
    """Return the memory of this process and its children, each page counted for its share."""
    process = psutil.Process()
    everyone = [process, *process.children(recursive=True)]
    return round(sum(one.memory_full_info().pss for one in everyone) / 1e6)


def show(report: Record) -> None:
    """Print a line a source."""
    click.echo(f"{report['cells']:,} cells, {report['workers']} workers")
    click.echo(
        "source   first start  second start  cells/s  memory at the quarters of an epoch, MB"
    )
    for name, record in report["sources"].items():
        epoch = record["epoch"]
        quarters = "  ".join(f"{value:,}" for value in epoch["memory_mb_at_quarters"])
        click.echo(
            f"{name:8} {record['first_start_seconds']:9.1f} s  "
            f"{record['second_start_seconds']:10.1f} s  {epoch['cells_a_second']:7,}  {quarters}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        chosen = int(sys.argv[3]) if len(sys.argv) > 3 else None
        click.echo(json.dumps(measure(Path(sys.argv[2]), chosen)))
    else:
        main()
