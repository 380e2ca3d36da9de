import numpy as np
import pytest

from cytodino.taxonomy import index_of
from cytodino_batch.classification import Classification
from cytodino_batch.review import REASONS, list_review

# label, confidence, runner-up; the row is its place here, twice as far apart
CELLS = [
    ("NGS", 0.90, "NGB"),  # 0: nothing to look at
    ("NGS", 0.40, "NGB"),  # 2: doubtful
    ("NGS", 0.45, "BLA"),  # 4: a blast may have been missed
    ("BLA", 0.95, "MON"),  # 6: critical
    ("BLA", 0.48, "MON"),  # 8: critical and doubtful
    ("KSC", 0.90, "ART"),  # 10: critical, though in no percentage
    ("FGC", 0.30, "PMO"),  # 12: critical and doubtful, more so
    ("EBO", 0.80, "BLA"),  # 14: nothing to look at
    ("NGS", 0.50, "BLA"),  # 16: not below 0.5
]
WORST_FIRST = [12, 8, 4, 10, 6, 2]


def make(cells=CELLS, coords=None, below=0.5) -> Classification:
    """Logits that give these probabilities, the rest spread over the other classes."""
    p = np.empty((len(cells), 21))
    for at, (label, confidence, runner_up) in enumerate(cells):
        second = min(confidence, 1 - confidence) * 0.9
        p[at] = (1 - confidence - second) / 19
        p[at, index_of(label)], p[at, index_of(runner_up)] = confidence, second
    n = 2 * len(cells)
    return Classification(
        rows=np.arange(0, n, 2),
        logits=np.log(p).astype(np.float32),
        quarantined=(),
        ids=[f"cell-{row}" for row in range(n)],
        coords=coords,
        review_below=below,
    )


def test_the_worst_come_first():
    review = list_review(make())
    assert [cell.row for cell in review.cells] == WORST_FIRST
    assert review.total == review.listed == 6
    assert review.cells[0].model_dump() == {
        "row": 12,
        "id": "cell-12",
        "x": None,
        "y": None,
        "label": "FGC",
        "confidence": 0.3,
        "runner_up": "PMO",
        "reason": "critical class, doubtful",
    }


def test_each_cell_is_counted_under_one_reason():
    assert list_review(make()).reasons == dict(zip(REASONS, (2, 1, 2, 1), strict=True))


def test_all_that_is_flagged_is_ranked_and_nothing_else():
    result = make()
    assert sorted(WORST_FIRST) == result.rows[result.review].tolist()


def test_the_list_is_bounded_and_says_how_many_there_are():
    review = list_review(make(), most=2)
    assert [cell.row for cell in review.cells] == WORST_FIRST[:2]
    assert (review.total, review.listed) == (6, 2)


def test_equals_stand_in_row_order():
    review = list_review(make([("BLA", 0.4, "MON")] * 40))
    assert [cell.row for cell in review.cells] == list(range(0, 80, 2))


def test_a_smudge_cell_is_critical():
    (cell,) = list_review(make([("KSC", 0.99, "ART")])).cells
    assert cell.reason == "critical class"


@pytest.mark.parametrize("below", [0.0, 1.0])
def test_the_bound_moves_what_is_doubtful(below):
    review = list_review(make(below=below))
    assert review.total == (4 if below == 0 else 9)
    assert review.below == below


@pytest.mark.parametrize(("dtype", "kind"), [(np.int64, int), (np.float32, float)])
def test_coordinates_keep_their_kind(dtype, kind):
    coords = np.arange(36, dtype=dtype).reshape(18, 2)
    cell = list_review(make(coords=coords)).cells[0]
    assert (cell.x, cell.y) == (24, 25)
    assert type(cell.x) is kind


def test_nothing_classified_leaves_nothing_to_review():
    empty = Classification(np.empty(0, np.int64), np.empty((0, 21), np.float32), (), [], None, 0.5)
    review = list_review(empty)
    assert (review.total, review.cells) == (0, ())
