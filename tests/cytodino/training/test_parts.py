import numpy as np
import pytest

from cytodino.cells import MemoryCells, open_cells
from cytodino.errors import InputError, TrainingError
from cytodino.parts import PARTS
from cytodino.training.parts import describe, divide


def test_every_cell_is_in_one_part(images):
    divided = divide(open_cells(images), seed=0)
    rows = np.concatenate([divided.rows(part) for part in PARTS])
    assert sorted(rows) == list(range(33))
    assert divided.counts() == {
        "train": {"BLA": 6, "EOS": 6, "LYT": 6, "MON": 1, "PLM": 1},
        "validation": {"BLA": 1, "EOS": 1, "LYT": 1},
        "calibration": {"BLA": 1, "EOS": 1, "LYT": 1},
        "test": {"BLA": 2, "EOS": 2, "LYT": 2, "PLM": 1},
    }


def test_what_cannot_be_learnt_or_judged_is_said(images, listener):
    describe(divide(open_cells(images), seed=0), listener)
    assert listener.said[0] == "33 cells: train 20, validation 3, calibration 3, test 7"
    assert "no cells of ABE ART BAS EBO" in listener.said[1]
    assert "MON PLM have too few cells or groups to be in every part" in listener.said[2]


def test_a_full_set_gives_no_warning(listener):
    crop = np.zeros((4, 4, 3), np.uint8)
    describe(divide(MemoryCells([crop] * 84, labels=list(range(21)) * 4), seed=0), listener)
    assert len(listener.said) == 1


def test_too_few_cells_for_a_part_are_refused():
    crop = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(
        TrainingError, match="the validation and the calibration part would be empty"
    ):
        divide(MemoryCells([crop] * 4, labels=[1, 1, 2, 2]), seed=0)


def test_cells_without_labels_are_refused():
    with pytest.raises(InputError, match="no labels"):
        divide(MemoryCells([np.zeros((4, 4, 3), np.uint8)]), seed=0)


def write_table(path, lines):
    path.write_text("\n".join(",".join(line) for line in lines))
    return path


def test_patients_are_kept_whole(images, tmp_path, listener):
    cells = open_cells(images)
    group = [f"patient {row % 7}" for row in range(33)]
    table = write_table(tmp_path / "groups.csv", zip(cells.ids, group, strict=True))
    divided = divide(cells, seed=0, groups=table, observer=listener)
    for name in set(group):
        assert len(set(divided.parts[np.array(group) == name])) == 1
    assert set(divided.parts) == set(PARTS)
    assert divided.rule.startswith("groups kept whole")


def test_too_few_patients_are_refused(images, tmp_path):
    cells = open_cells(images)
    table = write_table(tmp_path / "groups.csv", [(name, name[:1]) for name in cells.ids[:20]])
    with pytest.raises(TrainingError, match="2 groups cannot fill 4 parts and stay whole; give"):
        divide(cells.subset(range(20)), seed=0, groups=table)


def test_a_published_split_is_followed_and_the_other_parts_are_carved_out_of_train(
    images, tmp_path
):
    cells = open_cells(images)
    test = [name for name in cells.ids if name.endswith(("0.png", "5.png"))]
    train = [name for name in cells.ids if name not in test]
    files = [
        (part, write_table(tmp_path / f"bm_{part}.csv", [("Image Path", "Label"), *rows]))
        for part, rows in (
            ("train", [(f"/their/train/{name}", "x") for name in train]),
            ("test", [(f"/their/test/{name}", "x") for name in test]),
        )
    ]
    divided = divide(cells, seed=0, split=files)
    assert {cells.ids[row] for row in divided.rows("test")} == set(test)
    counts = divided.counts()
    # Of the eight that are left of each large class: an eighth each, and at least one.
    assert counts["validation"] == counts["calibration"] == {"BLA": 1, "EOS": 1, "LYT": 1}
    assert counts["train"]["BLA"] == 6
    assert divided.rule.startswith("as the files say")


def test_a_runs_own_split_is_followed_to_the_letter(images, tmp_path):
    cells = open_cells(images)
    own = divide(cells, seed=3)
    table = write_table(
        tmp_path / "split.csv", [("id", "part"), *zip(cells.ids, own.parts, strict=True)]
    )
    assert (divide(cells, seed=0, split=[(None, table)]).parts == own.parts).all()


def test_a_split_without_training_cells_or_through_a_patient_is_refused(images, tmp_path):
    cells = open_cells(images)
    everything = write_table(tmp_path / "all.csv", [(name,) for name in cells.ids])
    with pytest.raises(TrainingError, match="names no cells for the train part; give --split tr"):
        divide(cells, seed=0, split=[("test", everything)])
    own = divide(cells, seed=0)
    split = write_table(tmp_path / "split.csv", zip(cells.ids, own.parts, strict=True))
    groups = write_table(tmp_path / "groups.csv", [(name, name[:3]) for name in cells.ids])
    with pytest.raises(TrainingError, match="tears 4 groups apart, first: BLA is in calibration"):
        divide(cells, seed=0, split=[(None, split)], groups=groups)


def test_what_a_split_leaves_open_keeps_patients_whole(images, tmp_path):
    cells = open_cells(images)
    group = [f"{row % 8}" for row in range(33)]
    groups = write_table(tmp_path / "groups.csv", zip(cells.ids, group, strict=True))
    named = ["test" if one in "01" else "train" for one in group]
    split = write_table(tmp_path / "split.csv", zip(cells.ids, named, strict=True))
    divided = divide(cells, seed=0, split=[(None, split)], groups=groups)
    for name in set(group):
        assert len(set(divided.parts[np.array(group) == name])) == 1
    assert set(divided.parts) == set(PARTS)
    assert {group[row] for row in divided.rows("test")} == {"0", "1"}
