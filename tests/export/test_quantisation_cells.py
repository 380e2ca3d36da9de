import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytodino.errors import InputError, MissingPathError
from cytodino.run import Run, open_run
from cytodino_export.gate_cells import GateCells, choose_cells
from cytodino_export.quantisation_cells import choose_quantisation_cells

SIZES = (10, 20)


@pytest.fixture(scope="module")
def run(run_path: Path) -> Run:
    return open_run(run_path)


@pytest.fixture(scope="module")
def gate(run: Run) -> GateCells:
    return choose_cells(run, max_cells=2_000)


def pixels(crops: list[np.ndarray]) -> set[bytes]:
    return {crop.tobytes() for crop in crops}


def test_they_are_training_cells_and_neither_set_holds_another_ones(
    run: Run, gate: GateCells
) -> None:
    first, second = choose_quantisation_cells(run, gate, sizes=SIZES)
    assert [len(one.crops) for one in (first, second)] == [10, 20]
    ids = [set(one.source["ids"]) for one in (first, second)]  # type: ignore[call-overload]  # a JSON value
    assert ids[0] | ids[1] <= set(run.split["train"])
    groups = [pixels(first.crops), pixels(second.crops), pixels(gate.crops)]
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & groups[2]
    again, _ = choose_quantisation_cells(run, gate, sizes=SIZES)
    assert again.source == first.source
    assert len(set(first.labels)) == 10


def test_cells_that_were_given_are_taken_but_for_those_held_out(
    run: Run, gate: GateCells, cells_path: Path, tmp_path: Path
) -> None:
    given = Path(shutil.copytree(cells_path, tmp_path / "given"))
    shutil.rmtree(given / "NGS")  # no longer the run's own folder, but cells of it
    first, second = choose_quantisation_cells(run, gate, calibration=given, sizes=SIZES)
    held_out = {*run.split["validation"], *run.split["test"]}
    assert first.source["path"] == str(given)
    assert first.source["part"] == "given"
    assert held_out.isdisjoint([*first.source["ids"], *second.source["ids"]])  # type: ignore[misc]  # JSON values


def test_the_runs_own_calibration_part_calibrates_no_int8(run: Run, gate: GateCells) -> None:
    held = list(run.split["train"][:20])
    split = {**run.split, "train": run.split["train"][20:], "calibration": held}
    for given in (None, Path(run.manifest.data.path)):  # type: ignore[union-attr]  # it has data
        sets = choose_quantisation_cells(
            Run(run.path, run.manifest, split), gate, calibration=given, sizes=SIZES
        )
        for one in sets:
            assert set(held).isdisjoint(one.source["ids"])  # type: ignore[call-overload]  # JSON


@pytest.mark.parametrize(
    ("again", "why"), [(False, "0 cells are left"), (True, "those that judge")]
)
def test_a_judging_cell_under_another_name_is_left_out(
    run: Run, gate: GateCells, cells_path: Path, tmp_path: Path, again: bool, why: str
) -> None:
    """Copied, or saved again: another file of the same pixels."""
    folder = tmp_path / "given" / "NGS"
    folder.mkdir(parents=True)
    for number, name in enumerate(run.split["test"][:6]):
        copy = folder / f"copy{number}.png"
        if again:
            Image.open(cells_path / name).save(copy, compress_level=1)
        else:
            shutil.copyfile(cells_path / name, copy)
    with pytest.raises(InputError, match=f"{why}.*--calibration"):
        choose_quantisation_cells(run, gate, calibration=folder.parent, sizes=(2, 2))


def without_data(run_path: Path, folder: Path, data: object) -> Run:
    copy = shutil.copytree(run_path, folder / "run")
    document = json.loads((copy / "run.json").read_text())
    document["data"] = data
    (copy / "run.json").write_text(json.dumps(document))
    return open_run(copy)


def test_a_run_whose_cells_are_gone_or_that_has_none_asks_for_some(
    run: Run, gate: GateCells, make_cells: Callable[..., Path], tmp_path: Path
) -> None:
    strangers = choose_cells(run, data=make_cells(tmp_path / "other", cells=17), max_cells=50)
    only_new = [row for row, name in enumerate(strangers.source.ids) if name.endswith("016.png")]
    elsewhere = GateCells(
        **{**vars(strangers), "source": strangers.source.subset(only_new)},
    )
    data = json.loads((run.path / "run.json").read_text())["data"]
    gone = without_data(run.path, tmp_path / "gone", data | {"path": str(tmp_path / "moved")})
    with pytest.raises(MissingPathError, match="moved.*--calibration") as caught:
        choose_quantisation_cells(gone, elsewhere, sizes=SIZES)
    assert caught.value.exit_code == 2
    imported = without_data(run.path, tmp_path / "imported", None)
    with pytest.raises(InputError, match="imported.*--calibration"):
        choose_quantisation_cells(imported, elsewhere, sizes=SIZES)
    with pytest.raises(MissingPathError, match="none.*--calibration"):
        choose_quantisation_cells(run, gate, calibration=tmp_path / "none", sizes=SIZES)
    first, _ = choose_quantisation_cells(run, elsewhere, sizes=SIZES)
    assert first.source["part"] == "train"


def test_one_cell_cannot_fill_two_sets(run: Run, gate: GateCells, tmp_path: Path) -> None:
    folder = tmp_path / "given" / "NGS"
    folder.mkdir(parents=True)
    from PIL import Image

    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "new.png")
    with pytest.raises(InputError, match="1 cells are left"):
        choose_quantisation_cells(run, gate, calibration=folder.parent, sizes=SIZES)
