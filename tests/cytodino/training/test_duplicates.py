import zlib

import numpy as np
import pytest

from cytodino.cells import MemoryCells
from cytodino.errors import TrainingError
from cytodino.training.duplicates import refuse_duplicates
from cytodino.training.parts import DividedCells


def crop(value, shape=(4, 6, 3)):
    return np.full(shape, value, np.uint8)


def divided(crops, parts):
    ids = [f"BLA/{letter}.png" for letter in "abcdefghijklmnopqrstuvwxyz"[: len(crops)]]
    cells = MemoryCells(crops, ids=ids, labels=[3] * len(crops))
    return DividedCells(cells, cells.labels, np.array(parts))


def checksums(crops):
    return np.array([zlib.crc32(one.tobytes()) for one in crops], dtype=np.uint32)


def test_copies_in_different_parts_are_named_with_the_mend():
    crops = [crop(1), crop(2), crop(1), crop(3), crop(1), crop(4)]
    given = divided(crops, ["test", "train", "train", "test", "test", "validation"])
    with pytest.raises(TrainingError) as caught:
        refuse_duplicates(given, checksums(crops))
    said = str(caught.value)
    assert "2 pairs of cells in different parts have the same pixels" in said
    assert "BLA/c.png (train) = BLA/a.png (test), BLA/c.png (train) = BLA/e.png (test)" in said
    assert "take one of each pair out of the data" in said
    assert "more" not in said


def test_copies_within_a_part_and_different_cells_are_let_pass():
    crops = [crop(1), crop(1), crop(2), crop(3)]
    refuse_duplicates(divided(crops, ["train", "train", "test", "test"]), checksums(crops))


def test_an_equal_checksum_alone_convicts_nobody():
    crops = [crop(1, (4, 6, 3)), crop(1, (6, 4, 3)), crop(2)]
    same = np.array([7, 7, 7], dtype=np.uint32)
    refuse_duplicates(divided(crops, ["train", "test", "validation"]), same)


def test_many_pairs_are_counted_and_the_first_are_named():
    crops = [crop(1)] * 14
    given = divided(crops, ["train"] * 7 + ["test"] * 7)
    with pytest.raises(TrainingError, match="^.*49 pairs.* and 29 more; take one"):
        refuse_duplicates(given, checksums(crops))
