from pathlib import Path

import numpy as np
import pytest

from cytodino.cells import open_cells
from cytodino.run import open_run
from cytodino_bench.random_run import draw_cells, write_run

torch = pytest.importorskip("torch")


@pytest.mark.slow
def test_a_solved_head_tells_its_cells_apart(tmp_path: Path) -> None:
    from cytodino.modeling.loading import load_run

    cells_path, run = tmp_path / "cells", tmp_path / "run"
    draw_cells(cells_path, count=21)
    write_run(run, cells_path, "tiny", solve_head=True)
    cells = open_cells(cells_path)
    model = load_run(run)

    crops = torch.from_numpy(np.stack([cells.read(index) for index in range(len(cells))]))
    with torch.inference_mode():
        logits = model(crops).numpy()

    assert cells.labels is not None
    assert (logits.argmax(axis=1) == cells.labels).mean() > 0.5  # one in 21 by chance
    assert open_run(run).manifest.tune == "lora"
    before = (run / "run.json").stat().st_mtime_ns
    write_run(run, cells_path, "tiny", solve_head=True)
    assert (run / "run.json").stat().st_mtime_ns == before
