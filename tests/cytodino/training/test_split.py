import numpy as np
import pytest

from cytodino.training.split import (
    FRACTIONS,
    count_by_class,
    part_sizes,
    split_cells,
    split_groups,
)

SIZES = {1: 40, 3: 10, 5: 3, 7: 2, 9: 1, 11: 7}
LABELS = np.repeat(list(SIZES), list(SIZES.values()))
IDS = [f"cell-{row}" for row in range(len(LABELS))]


def counts(parts, label):
    return {part: int(((label == LABELS) & (parts == part)).sum()) for part in FRACTIONS}


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (1, (1, 0, 0, 0)),
        (2, (1, 0, 0, 1)),
        (3, (1, 0, 1, 1)),
        (4, (1, 1, 1, 1)),
        (10, (6, 1, 1, 2)),
        (40, (24, 4, 4, 8)),
        (200, (120, 20, 20, 40)),
    ],
)
def test_a_class_is_divided_by_the_stated_rule(n, sizes):
    parts = ("train", "calibration", "validation", "test")
    assert part_sizes(n, FRACTIONS) == dict(zip(parts, sizes, strict=True))
    assert list(part_sizes(n, FRACTIONS)) == list(FRACTIONS)


def test_every_class_is_divided_on_its_own():
    parts = split_cells(LABELS, IDS, seed=0)
    for label, n in SIZES.items():
        assert counts(parts, label) == part_sizes(n, FRACTIONS)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_validation_and_test_are_what_they_were_when_there_were_three_parts(seed):
    three = split_cells(
        LABELS,
        IDS,
        seed=seed,
        fractions={"train": 0.7, "validation": 0.1, "test": 0.2},
        priority=("train", "test", "validation"),
    )
    four = split_cells(LABELS, IDS, seed=seed)
    assert set(three[four == "calibration"]) == {"train"}
    for part in ("validation", "test"):
        assert ((three == part) == (four == part)).all()


def test_the_seed_decides():
    first = split_cells(LABELS, IDS, seed=0)
    assert (first == split_cells(LABELS, IDS, seed=0)).all()
    assert (first != split_cells(LABELS, IDS, seed=1)).any()


def test_the_order_of_the_cells_does_not_matter():
    parts = dict(zip(IDS, split_cells(LABELS, IDS, seed=0), strict=True))
    order = np.random.default_rng(0).permutation(len(IDS))
    shuffled = [IDS[row] for row in order]
    again = split_cells(LABELS[order], shuffled, seed=0)
    assert dict(zip(shuffled, again, strict=True)) == parts


def test_another_class_joining_changes_nothing_for_the_others():
    parts = split_cells(LABELS, IDS, seed=0)
    labels = np.append(LABELS, [20, 20, 20])
    joined = split_cells(labels, [*IDS, "x", "y", "z"], seed=0)
    assert (joined[: len(LABELS)] == parts).all()


def test_cells_are_counted_by_code():
    assert count_by_class(np.array([20, 0, 20])) == {"ABE": 1, "PMO": 2}


def patients(n, seed=0):
    """Cells of n patients of very different numbers, each mostly of two classes."""
    random = np.random.default_rng(seed)
    groups, labels = [], []
    for patient in range(n):
        kinds = random.choice(6, 2, replace=False)
        size = int(random.lognormal(3, 1)) + 1
        groups += [f"patient {patient}"] * size
        labels += random.choice(kinds, size).tolist()
    return np.array(labels), np.array(groups)


def test_groups_are_kept_whole_and_every_class_near_its_share():
    labels, groups = patients(200)
    parts = split_groups(labels, groups, seed=0)
    for name in np.unique(groups):
        assert len(set(parts[groups == name])) == 1
    for label in np.unique(labels):
        for part, fraction in FRACTIONS.items():
            assert (parts[labels == label] == part).mean() == pytest.approx(fraction, abs=0.03)


def test_few_groups_are_divided_so_that_no_part_is_empty():
    groups = np.repeat(["a", "b", "c", "d", "e"], [50, 50, 50, 50, 1])
    parts = split_groups(np.zeros(len(groups), int), groups, seed=0)
    assert set(parts) == set(FRACTIONS)
    four = groups != "e"
    assert set(split_groups(np.zeros(200, int), groups[four], seed=0)) == set(FRACTIONS)


def test_a_class_of_one_group_is_trained_on():
    labels, groups = patients(60)
    labels = np.append(labels, [20, 20])
    parts = split_groups(labels, np.append(groups, ["rare", "rare"]), seed=0)
    assert parts[-1] == "train"


def test_groups_are_divided_by_the_seed_and_not_by_the_order_of_the_cells():
    labels, groups = patients(50)
    parts = split_groups(labels, groups, seed=0)
    order = np.random.default_rng(1).permutation(len(labels))
    assert (split_groups(labels[order], groups[order], seed=0) == parts[order]).all()
    equal = np.repeat([f"p{number}" for number in range(20)], 3)
    first, second = (split_groups(np.zeros(60, int), equal, seed=seed) for seed in (0, 1))
    assert (first != second).any()
