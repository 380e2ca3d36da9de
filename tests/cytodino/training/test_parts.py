import numpy as np
import pytest

from cytodino.cells import MemoryCells, open_cells
from cytodino.errors import CropError, InputError, TrainingError
from cytodino.parts import PARTS
from cytodino.training.parts import describe, divide, read_all


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
    assert "MON PLM have too few cells" in listener.said[2]


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


def test_every_image_is_read(images, listener):
    read_all(open_cells(images), listener)
    assert listener.tasks == [["checking images", 33, 33]]


def test_an_image_that_cannot_be_read_is_named(images, listener):
    path = images / "EOS" / "EOS_03.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(CropError, match="EOS_03.png"):
        read_all(open_cells(images), listener)


def test_several_are_counted_and_the_first_is_named(images, listener):
    for name in ("EOS_03.png", "EOS_07.png"):
        (images / "EOS" / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"2 of 33 images cannot be used; first, .*EOS_03\.png"):
        read_all(open_cells(images), listener)
