import json

import numpy as np
import pytest
from sklearn.metrics import (  # noqa: TID253  # what the formulas are held against
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
)

from cytodino.errors import InputError
from cytodino.metrics import (
    CRITICAL_AS_SAFE,
    Scores,
    confusion,
    f1_from_confusion,
    macro_f1_from_confusion,
    score,
    score_confusion,
    supported_classes,
    weighted_f1_from_confusion,
)
from cytodino.taxonomy import CODES, CRITICAL, N_CLASSES, SAFE, index_of


def indices(*codes: str) -> np.ndarray:
    return np.array([index_of(code) for code in codes])


def random_answers(seed: int, present: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Labels of `present` classes; predictions mostly right, otherwise any of the 21."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(N_CLASSES)[:present]
    labels = rng.choice(classes, n, p=rng.dirichlet(np.ones(present)))
    guesses = rng.integers(0, N_CLASSES, n)
    return labels, np.where(rng.random(n) < 0.6, labels, guesses)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("present", [1, 4, 13, 21])
def test_scores_are_those_of_scikit_learn(seed: int, present: int) -> None:
    labels, predictions = random_answers(seed, present)
    occurring = np.unique(labels)
    options = {"zero_division": 0, "labels": occurring}

    scores = score(labels, predictions)

    assert scores.n == labels.size
    assert scores.macro_f1_classes == occurring.size
    assert scores.accuracy == pytest.approx(accuracy_score(labels, predictions))
    weighted = f1_score(labels, predictions, average="weighted", zero_division=0)
    assert scores.weighted_f1 == pytest.approx(weighted)
    macro = f1_score(labels, predictions, average="macro", **options)
    assert scores.macro_f1 == pytest.approx(macro)
    precision = precision_score(labels, predictions, average="weighted", zero_division=0)
    assert scores.weighted_precision == pytest.approx(precision)


@pytest.mark.parametrize("seed", range(3))
def test_macro_f1_of_supported_classes_leaves_small_ones_out(seed: int) -> None:
    labels, predictions = random_answers(seed, 15)
    large = np.flatnonzero(np.bincount(labels, minlength=N_CLASSES) >= 20)
    expected = f1_score(labels, predictions, average="macro", labels=large, zero_division=0)

    scores = score(labels, predictions)

    assert 0 < large.size < 15
    assert scores.macro_f1_supported == pytest.approx(expected)
    assert scores.macro_f1_supported_classes == large.size


def test_per_class_figures_are_those_of_scikit_learn_for_absent_classes_too() -> None:
    labels, predictions = random_answers(3, 9)
    expected = precision_recall_fscore_support(
        labels, predictions, labels=range(N_CLASSES), zero_division=0
    )

    per_class = score(labels, predictions).per_class

    assert tuple(row.code for row in per_class) == CODES
    found = np.array([[r.precision, r.recall, r.f1, r.support] for r in per_class]).T
    np.testing.assert_allclose(found, np.array(expected, dtype=float))
    assert [r.predicted for r in per_class] == np.bincount(predictions, minlength=21).tolist()


def test_confusion_has_true_rows_and_predicted_columns() -> None:
    labels, predictions = random_answers(1, 21)
    matrix = confusion(labels, predictions)

    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(
        matrix, confusion_matrix(labels, predictions, labels=range(N_CLASSES))
    )
    one = confusion(indices("BLA"), indices("LYT"))
    assert one[index_of("BLA"), index_of("LYT")] == 1 == one.sum()


def test_scores_worked_by_hand() -> None:
    # Three blasts, of which one called lymphocyte and one monocyte; two lymphocytes, both right;
    # one artefact called blast.
    #        support predicted hits precision recall F1
    #   BLA      3        2      1     1/2     1/3   2/5
    #   LYT      2        3      2     2/3      1    4/5
    #   ART      1        0      0      0       0     0
    labels = indices("BLA", "BLA", "BLA", "LYT", "LYT", "ART")
    predictions = indices("BLA", "LYT", "MON", "LYT", "LYT", "BLA")

    scores = score(labels, predictions)

    assert scores.accuracy == pytest.approx(3 / 6)
    assert scores.weighted_f1 == pytest.approx((3 * 0.4 + 2 * 0.8) / 6)
    assert scores.macro_f1 == pytest.approx((0.4 + 0.8 + 0) / 3)
    assert scores.macro_f1_classes == 3
    assert scores.macro_f1_supported is None
    assert scores.macro_f1_supported_classes == 0
    assert scores.weighted_precision == pytest.approx((3 * 1 / 2 + 2 * 2 / 3) / 6)
    errors = scores.critical_errors
    assert (errors.count, errors.critical_cells) == (2, 3)
    assert errors.rate == pytest.approx(2 / 3)


def test_critical_errors_are_critical_cells_called_safe_most_frequent_pair_first() -> None:
    labels = indices("ABE", "BLA", "BLA", "BLA", "MYB", "LYT", "KSC", "BLA")
    predictions = indices("EOS", "LYT", "LYT", "MYB", "NGS", "BLA", "ART", "BLA")

    errors = score(labels, predictions).critical_errors

    # Critical called critical, safe called critical and critical called neutral do not count.
    assert [(p.true, p.predicted, p.count) for p in errors.pairs] == [
        ("BLA", "LYT", 2),
        ("ABE", "EOS", 1),
        ("MYB", "NGS", 1),
    ]
    assert errors.count == 4
    assert errors.critical_cells == 7


def test_the_rate_of_critical_errors_is_unknown_without_critical_cells() -> None:
    errors = score(indices("LYT", "MON"), indices("LYT", "BLA")).critical_errors
    assert (errors.count, errors.critical_cells, errors.rate, errors.pairs) == (0, 0, None, ())


def test_critical_as_safe_is_the_product_of_both_sets() -> None:
    named = {(CODES[t], CODES[p]) for t, p in np.argwhere(CRITICAL_AS_SAFE)}
    assert named == {(true, called) for true in CRITICAL for called in SAFE}


def test_a_stack_of_matrices_scores_like_each_alone() -> None:
    stack = np.array([[confusion(*random_answers(s, 4 + s)) for s in (r, r + 5)] for r in range(3)])
    mask = supported_classes(stack[0, 0])

    assert stack.shape == (3, 2, N_CLASSES, N_CLASSES)
    for place in np.ndindex(3, 2):
        alone = score_confusion(stack[place])
        assert weighted_f1_from_confusion(stack)[place] == pytest.approx(alone.weighted_f1)
        assert macro_f1_from_confusion(stack)[place] == pytest.approx(alone.macro_f1)
        np.testing.assert_allclose(
            f1_from_confusion(stack)[place], [row.f1 for row in alone.per_class]
        )
        masked = macro_f1_from_confusion(stack, classes=mask)[place]
        assert masked == pytest.approx(
            float(macro_f1_from_confusion(stack[place], classes=mask)), nan_ok=True
        )


def test_macro_f1_over_given_classes_leaves_out_those_a_resample_lacks() -> None:
    both = confusion(indices("BLA", "BLA", "LYT"), indices("BLA", "LYT", "LYT"))
    only_blasts = confusion(indices("BLA", "BLA"), indices("BLA", "LYT"))
    mask = np.zeros(N_CLASSES, dtype=bool)
    mask[[index_of("BLA"), index_of("LYT")]] = True

    found = macro_f1_from_confusion(np.array([both, only_blasts]), classes=mask)

    np.testing.assert_allclose(found, [2 / 3, 2 / 3])
    mask[index_of("BLA")] = False
    found = macro_f1_from_confusion(np.array([both, only_blasts]), classes=mask)
    assert found[0] == pytest.approx(2 / 3)
    assert np.isnan(found[1])


def test_an_empty_matrix_in_a_stack_weighs_nothing() -> None:
    assert weighted_f1_from_confusion(np.zeros((21, 21), dtype=int)) == 0


def test_counts_may_be_of_a_small_or_unsigned_type() -> None:
    labels, predictions = random_answers(2, 6)
    assert score(labels.astype(np.uint8), predictions.astype(np.int16)) == score(
        labels, predictions
    )


def test_scores_survive_json_and_cannot_be_changed() -> None:
    scores = score(*random_answers(0, 8))
    assert Scores.model_validate_json(scores.model_dump_json()) == scores
    assert json.loads(scores.model_dump_json())["per_class"][0]["code"] == "ABE"
    with pytest.raises(ValueError, match="frozen"):
        scores.n = 3  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("labels", "predictions", "words"),
    [
        (np.zeros(3, int), np.zeros(2, int), r"\(3,\).*\(2,\)"),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), "shape"),
        (np.array([0, -1, -1]), np.zeros(3, int), "2 of 3 labels.*position 1: -1"),
        (np.array([0, 1]), np.array([0, 21]), "1 of 2 predictions.*position 1: 21"),
        (np.array([0.0, 1.0]), np.array([0, 1]), "integer, not float64"),
        (np.array([], int), np.array([], int), "no cell"),
    ],
)
def test_answers_that_cannot_be_scored_are_refused(
    labels: np.ndarray, predictions: np.ndarray, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        score(labels, predictions)


def test_a_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 3\)"):
        score_confusion(np.ones((3, 3), dtype=int))
