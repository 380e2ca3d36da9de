from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cytodino.archive import write_archive
from cytodino.calibration.cells import CalibrationCells, choose_calibration_cells
from cytodino.cells import MemoryCells
from cytodino.errors import MissingPathError
from cytodino.run import Run


def draw(n: int, *, labels: np.ndarray | None = None, prefix: str = "cell") -> MemoryCells:
    crops = [np.full((4, 4, 3), at % 250, dtype=np.uint8) for at in range(n)]
    ids = [f"{prefix}-{at:04}" for at in range(n)]
    return MemoryCells(crops, ids=ids, labels=np.arange(n) % 21 if labels is None else labels)


def run_of(split: dict[str, list[str]], groups: object = None) -> Run:
    manifest: Any = SimpleNamespace(data=None, split=SimpleNamespace(groups=groups))
    return Run(Path("run"), manifest, split)


def test_the_calibration_part_and_nothing_else_is_taken():
    cells = draw(300)
    split = {"train": cells.ids[:100], "calibration": cells.ids[100:200], "test": cells.ids[200:]}
    found = choose_calibration_cells(run_of(split), cells)
    assert isinstance(found, CalibrationCells)
    assert found.ids == cells.ids[100:200]
    assert found.labels.tolist() == [at % 21 for at in range(100, 200)]
    assert found.source["part"] == "calibration"
    assert (found.source["n"], found.source["ids"]) == (100, cells.ids[100:200])


def test_fewer_are_drawn_at_random_and_not_by_class_whatever_their_order():
    labels = np.where(np.arange(2000) < 1800, 0, 1)
    cells = draw(2000, labels=labels)
    split = {"calibration": cells.ids}
    found = choose_calibration_cells(run_of(split), cells, most=500)
    again = choose_calibration_cells(
        run_of(split), cells.subset(np.random.default_rng(0).permutation(2000)), most=500
    )
    assert isinstance(found, CalibrationCells)
    assert isinstance(again, CalibrationCells)
    assert len(found.rows) == 500
    assert found.labels.mean() == pytest.approx(0.1, abs=0.04)
    assert sorted(found.ids) == sorted(again.ids)


def test_given_cells_that_the_run_knows_from_other_parts_are_left_out(tmp_path: Path):
    cells = draw(300)
    path = tmp_path / "cells.h5"
    write_archive(path, cells, encoding="raw")
    split = {"train": cells.ids[:50], "validation": cells.ids[50:60], "test": cells.ids[60:70],
             "calibration": cells.ids[70:80]}  # fmt: skip
    found = choose_calibration_cells(run_of(split), draw(1), given=path)
    assert isinstance(found, CalibrationCells)
    assert found.ids == cells.ids[70:]
    assert found.source["part"] == "given"


def test_what_is_missing_is_said():
    cells = draw(300)
    assert choose_calibration_cells(run_of({"train": []}), cells) == (
        "the run's split has no calibration part"
    )
    few = choose_calibration_cells(run_of({"calibration": cells.ids[:59]}), cells)
    assert isinstance(few, str)
    assert "59 labelled calibration cells" in few
    blank = draw(300, labels=np.full(300, -1))
    assert isinstance(choose_calibration_cells(run_of({"calibration": blank.ids}), blank), str)
    with pytest.raises(MissingPathError):
        choose_calibration_cells(run_of({}), cells, given=Path("nowhere"))


def test_cells_of_whole_patients_are_known_as_such():
    cells = draw(300)
    for groups, grouped in ((None, False), ("patients.csv", True)):
        found = choose_calibration_cells(run_of({"calibration": cells.ids}, groups), cells)
        assert isinstance(found, CalibrationCells)
        assert found.grouped is grouped
