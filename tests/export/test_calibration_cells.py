import numpy as np
import pytest

from cytodino.errors import InputError
from cytodino_export.calibration_cells import draw_cell_sets

LABELS = np.repeat(np.arange(4), [50, 30, 4, 2])
IDS = [f"{label}/{row}.png" for row, label in enumerate(LABELS)]


def test_sets_are_disjoint_even_and_of_the_size_asked_for() -> None:
    calibration, tuning = draw_cell_sets(LABELS, IDS, (20, 20), seed=0)
    assert len(calibration) == len(tuning) == 20
    assert not set(calibration) & set(tuning)
    counts = np.bincount(LABELS[calibration], minlength=4)
    assert counts[3] == 2 and counts[2] == 4 and abs(counts[0] - counts[1]) <= 1


def test_the_rows_order_does_not_matter_and_the_seed_does() -> None:
    shuffled = np.random.default_rng(0).permutation(len(IDS))
    first = draw_cell_sets(LABELS, IDS, (10, 10), seed=3)
    again = draw_cell_sets(LABELS[shuffled], [IDS[i] for i in shuffled], (10, 10), seed=3)
    for one, other in zip(first, again, strict=True):
        assert {IDS[i] for i in one} == {IDS[shuffled[i]] for i in other}
    other_seed = draw_cell_sets(LABELS, IDS, (10, 10), seed=4)
    assert set(first[0]) != set(other_seed[0])


def test_with_too_few_cells_the_sets_shrink_in_proportion() -> None:
    large, small = draw_cell_sets(LABELS, IDS, (400, 200), seed=0)
    assert len(large) + len(small) <= len(IDS)
    assert len(large) == pytest.approx(2 * len(small), abs=2)
    assert not set(large) & set(small)


def test_unlabelled_cells_count_as_a_class() -> None:
    (drawn,) = draw_cell_sets(np.full(5, -1), IDS[:5], (3,), seed=0)
    assert len(drawn) == 3


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(InputError, match="cannot fill"):
        draw_cell_sets(LABELS[:1], IDS[:1], (1, 1), seed=0)
    with pytest.raises(InputError, match="belong together"):
        draw_cell_sets(LABELS, IDS[:-1], (1,), seed=0)
    with pytest.raises(InputError, match="belong together"):
        draw_cell_sets(LABELS[:2], ["a", "a"], (1,), seed=0)
