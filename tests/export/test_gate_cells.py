import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytodino.archive import write_archive
from cytodino.cells import open_cells
from cytodino.errors import CropError, InputError, MissingPathError
from cytodino.run import Run, open_run
from cytodino_export.gate_cells import ODD_CELLS, choose_cells
from cytodino_export.quantisation_cells import choose_quantisation_cells


@pytest.fixture
def run(run_path: Path) -> Run:
    return open_run(run_path)


def ids_of(cells: Any, group: Any) -> set[str]:
    return {cells.ids[row] for row in group.rows}


def test_acceptance_is_the_test_part_and_golden_was_never_trained_on(run: Run) -> None:
    cells = choose_cells(run, max_cells=2_000)
    assert ids_of(cells, cells.acceptance) == set(run.split["test"])
    golden = ids_of(cells, cells.golden)
    assert len(golden) == len(cells.golden.rows) == 256
    assert golden <= set(run.split["test"]) | set(run.split["validation"])
    assert golden & set(run.split["validation"])
    assert cells.golden_source.ids == tuple(cells.ids[row] for row in cells.golden.rows)
    assert cells.golden_source.parts == ("validation", "test")


def test_each_cell_is_read_once_and_is_the_one_it_says(run: Run) -> None:
    cells = choose_cells(run, max_cells=2_000)
    own = len(cells.crops) - ODD_CELLS
    assert len(set(cells.ids[:own])) == own
    source = open_cells(Path(run.manifest.data.path))
    for row in range(0, own, 17):
        index = source.ids.index(cells.ids[row])
        assert np.array_equal(cells.crops[row], source.read(index))
        assert source.labels is not None
        assert cells.labels[row] == source.labels[index]


def test_odd_cells_have_sizes_that_no_cell_has(run: Run) -> None:
    cells = choose_cells(run, max_cells=2_000)
    shapes = {crop.shape for crop in cells.crops[:-ODD_CELLS]}
    assert len(cells.pick(cells.odd)) == ODD_CELLS
    assert not shapes & {crop.shape for crop in cells.pick(cells.odd)}


def test_too_many_cells_are_drawn_by_class_and_seed(run: Run) -> None:
    cells = choose_cells(run, max_cells=42)
    assert np.bincount(cells.labels[cells.acceptance.rows]).tolist() == [2] * 21
    again = choose_cells(run, max_cells=42)
    assert ids_of(cells, cells.acceptance) == ids_of(again, again.acceptance)
    assert cells.acceptance_source == again.acceptance_source
    other = choose_cells(run, max_cells=42, seed=1)
    assert ids_of(cells, cells.acceptance) != ids_of(other, other.acceptance)


def test_data_that_is_gone_is_exit_2_with_the_mend(run: Run, tmp_path: Path) -> None:
    gone = run.manifest.data.model_copy(update={"path": str(tmp_path / "gone")})
    moved = Run(run.path, run.manifest.model_copy(update={"data": gone}), run.split)
    with pytest.raises(MissingPathError, match="--data") as caught:
        choose_cells(moved, max_cells=10)
    assert caught.value.exit_code == 2
    cells = choose_cells(moved, data=Path(run.manifest.data.path), max_cells=2_000)
    assert ids_of(cells, cells.acceptance) == set(run.split["test"])


def test_training_cells_under_other_names_do_not_judge(run: Run, tmp_path: Path) -> None:
    own = Path(run.manifest.data.path)
    part_of = {name: part for part, names in run.split.items() for name in names}
    for name in part_of:
        copy = tmp_path / "renamed" / f"{name}".replace("/", f"/{part_of[name]}-")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(own / name, copy)
    cells = choose_cells(run, data=tmp_path / "renamed", max_cells=2_000)
    judging = ids_of(cells, cells.acceptance)
    assert len(judging) == len(run.split["test"])
    assert all("/test-" in name for name in judging)


def test_cells_that_changed_since_the_training_are_refused(run: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.manifest.data.path, tmp_path / "images"))
    next(copy.rglob("000.png")).unlink()
    data = run.manifest.data.model_copy(update={"path": str(copy)})
    changed = Run(run.path, run.manifest.model_copy(update={"data": data}), run.split)
    with pytest.raises(InputError, match="changed since the run was trained"):
        choose_cells(changed, max_cells=10)


def test_given_cells_leave_out_what_was_trained_on(run: Run, tmp_path: Path) -> None:
    source = open_cells(Path(run.manifest.data.path))
    trained = [source.ids.index(name) for name in run.split["train"]]
    tested = [source.ids.index(name) for name in run.split["test"][:30]]
    write_archive(tmp_path / "both.h5", source.subset(trained + tested))
    cells = choose_cells(run, data=tmp_path / "both.h5", max_cells=100)
    assert ids_of(cells, cells.acceptance) == set(run.split["test"][:30])
    write_archive(tmp_path / "train.h5", source.subset(trained))
    with pytest.raises(InputError, match="no cell is left that was not trained on.*--data"):
        choose_cells(run, data=tmp_path / "train.h5", max_cells=100)


def test_the_runs_calibration_part_judges_nothing_and_does_not_travel(run: Run) -> None:
    held = list(run.split["test"][:40])
    split = {**run.split, "test": run.split["test"][40:], "calibration": held}
    cells = choose_cells(Run(run.path, run.manifest, split), max_cells=2_000)
    assert set(held).isdisjoint(cells.ids)


def test_strangers_count_as_test_cells_and_need_no_labels(run: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "strangers").mkdir()
    for number in range(12):
        pixels = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "strangers" / f"s{number}.png")
    cells = choose_cells(run, data=tmp_path / "strangers", max_cells=100)
    assert len(cells.acceptance.rows) == len(cells.golden.rows) == 12
    assert (cells.labels == -1).all()


def test_others_of_the_same_names_count_as_test_cells(
    run: Run, make_cells: Any, tmp_path: Path
) -> None:
    other = make_cells(tmp_path / "other", seed=9, cells=16)
    assert set(open_cells(other).ids) == set(run.open_cells().ids)
    cells = choose_cells(run, data=other, max_cells=2_000)
    assert len(cells.acceptance.rows) == 16 * 21
    third = make_cells(tmp_path / "third", seed=10, cells=2)
    first, second = choose_quantisation_cells(run, cells, calibration=third, sizes=(8, 8))
    assert len(first.crops) == len(second.crops) == 8


def test_golden_cells_of_ones_own(run: Run, make_cells: Any, tmp_path: Path) -> None:
    other = make_cells(tmp_path / "other", seed=9, cells=20)
    for path in other.rglob("*.png"):
        path.rename(path.with_name(f"mine{path.name}"))
    cells = choose_cells(run, golden=other, max_cells=50)
    assert cells.golden_source.parts == ("given",)
    assert cells.golden_source.path == str(other)
    assert all("mine" in name for name in cells.golden_source.ids)
    assert len(cells.golden.rows) == 256
    assert ids_of(cells, cells.acceptance) <= set(run.split["test"])
    written = cells.golden_cells()
    assert written.ids == list(cells.golden_source.ids)


def test_an_unreadable_cell_stops_the_export_with_its_path(run: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.manifest.data.path, tmp_path / "images"))
    broken = copy / run.split["test"][0]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(CropError, match=broken.name):
        choose_cells(run, data=copy, max_cells=2_000)
