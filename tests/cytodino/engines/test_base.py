import numpy as np
import pytest

from cytodino.engines.base import gather_batches


def gathered(crops, size=4):
    return list(gather_batches(crops, size))


def test_rows_of_one_array_are_not_copied():
    block = np.arange(10 * 5 * 4 * 3, dtype=np.uint8).reshape(10, 5, 4, 3)
    found = gathered(list(block))
    assert [positions for positions, _ in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for positions, batch in found:
        assert np.shares_memory(batch, block)
        np.testing.assert_array_equal(batch, block[positions])


@pytest.mark.parametrize(
    "order", [[1, 0], [0, 2], [0, 0], [3, 2, 1]], ids=["swapped", "gap", "twice", "backwards"]
)
def test_rows_out_of_order_are_put_in_theirs(order):
    block = np.random.default_rng(0).integers(0, 256, (4, 3, 3, 3), dtype=np.uint8)
    ((positions, batch),) = gathered([block[row] for row in order])
    assert positions == list(range(len(order)))
    np.testing.assert_array_equal(batch, block[order])


def test_views_that_are_not_whole_rows_are_copied_right():
    wide = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    crops = [row[:, ::2] for row in wide] + [row[1:5, 0:3] for row in wide]
    for positions, batch in gathered(crops):
        for position, crop in zip(positions, batch, strict=True):
            np.testing.assert_array_equal(crop, crops[position])


def test_rows_of_two_arrays_are_put_together():
    blocks = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 3, 3), dtype=np.uint8)
    crops = [row for block in blocks.copy() for row in block]
    alone = [crop.copy() for crop in crops]
    for given in (crops, alone, crops[:2] + alone[2:]):
        ((_, batch),) = gathered(given)
        np.testing.assert_array_equal(batch, blocks.reshape(4, 3, 3, 3))


def test_sizes_come_in_the_order_in_which_they_first_occur():
    crops = [np.zeros((size, 2, 3), np.uint8) for size in (5, 3, 5, 3, 5)]
    assert [positions for positions, _ in gathered(crops)] == [[0, 2, 4], [1, 3]]
