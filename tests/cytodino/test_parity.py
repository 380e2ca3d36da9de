import numpy as np
import pytest

from cytodino.errors import ParityError
from cytodino.limits import LIMITS, Limits
from cytodino.parity import compare, margin_of
from cytodino.statistics import softmax, wilson_lower
from cytodino.taxonomy import index_of

N = 300


@pytest.fixture
def reference() -> np.ndarray:
    """Logits of clear decisions, every class in turn."""
    generator = np.random.default_rng(7)
    logits = generator.normal(0, 0.5, (N, 21)).astype(np.float32)
    logits[np.arange(N), np.arange(N) % 21] += 6
    return logits


def swap_decision(logits: np.ndarray, row: int, winner: str) -> np.ndarray:
    moved = logits.copy()
    best = moved[row].argmax()
    other = index_of(winner)
    moved[row, best], moved[row, other] = moved[row, other], moved[row, best]
    return moved


def test_same_logits_pass_every_variant(reference: np.ndarray) -> None:
    for limits in LIMITS.values():
        report = compare(reference, reference.copy(), limits, np.arange(N) % 21)
        assert report.verdict == "passed"
        assert report.failures == ()
        assert report.logit_max == 0.0
        assert report.agreement == 1.0
        assert report.flips == ()


def test_few_cells_prove_nothing(reference: np.ndarray) -> None:
    report = compare(reference[:199], reference[:199], LIMITS["fp32"])
    assert report.verdict == "unproven"
    assert compare(reference[:200], reference[:200], LIMITS["fp32"]).verdict == "passed"


def test_few_cells_can_fail(reference: np.ndarray) -> None:
    report = compare(reference[:50], reference[:50] + 0.5, LIMITS["fp32"])
    assert report.verdict == "failed"


def test_one_clear_flip_fails_and_is_named(reference: np.ndarray) -> None:
    row = index_of("BLA")  # that row's decision
    report = compare(reference, swap_decision(reference, row, "LYT"), LIMITS["int8"])
    assert report.verdict == "failed"
    (flip,) = report.flips
    assert (flip.row, flip.reference, flip.candidate, flip.critical) == (row, "BLA", "LYT", True)
    assert report.critical_flips == (flip,)
    assert report.flip_table()[index_of("BLA"), index_of("LYT")] == 1
    assert report.flip_table().sum() == 1
    assert any("critical flips of a clear margin: BLA to LYT" in text for text in report.failures)


def test_flip_from_safe_to_critical_is_not_critical(reference: np.ndarray) -> None:
    row = index_of("LYT")
    report = compare(reference, swap_decision(reference, row, "BLA"), LIMITS["int8"])
    assert report.critical_flips == ()
    assert report.verdict == "failed"


def test_flip_of_an_unclear_margin_passes(reference: np.ndarray) -> None:
    close = reference.copy()
    close[0] = 0.0
    close[0, 0], close[0, 1] = 4.0, 3.99
    flipped = swap_decision(close, 0, "ART")
    margin = margin_of(softmax(close))[0]
    assert 0.001 < margin < 0.02
    assert compare(close, flipped, LIMITS["bf16"]).verdict == "passed"
    assert compare(close, flipped, LIMITS["fp32"]).verdict == "failed"


def test_probability_limit(reference: np.ndarray) -> None:
    limits = Limits(margin=1.0, probability=0.01)
    softened = reference.copy()
    softened[3, 3] -= 3
    report = compare(reference, softened, limits)
    assert report.verdict == "failed"
    assert report.failures[0].startswith("a probability moved")


def test_logit_limits_see_what_the_softmax_hides(reference: np.ndarray) -> None:
    shifted = reference + np.float32(0.01)  # the softmax is blind to a shift of all logits
    report = compare(reference, shifted, LIMITS["fp32"])
    assert report.probability_max < 1e-6
    assert report.verdict == "failed"
    assert report.logit_relative_max == pytest.approx(0.01 / reference.std(), rel=1e-3)


def test_agreement_limit() -> None:
    limits = Limits(margin=1.0, probability=1.0, agreement=0.97)
    reference = np.zeros((200, 21), dtype=np.float32)
    reference[:, 0] = 1
    candidate = reference.copy()
    candidate[:6, 1] = 2
    assert compare(reference, candidate, limits).verdict == "passed"
    candidate[6, 1] = 2
    report = compare(reference, candidate, limits)
    assert report.failures == ("top-1 agreement is 96.50%, below 97%",)
    assert report.agreement_low == pytest.approx(wilson_lower(193, 200))


def test_agreement_of_few_cells_is_not_judged_their_flips_are() -> None:
    limits = Limits(margin=0.5, probability=1.0, agreement=0.97)
    reference = np.zeros((24, 21), dtype=np.float32)
    reference[:, 0] = 1
    candidate = reference.copy()
    candidate[0, 1] = 2
    report = compare(reference, candidate, limits)
    assert (report.verdict, report.failures) == ("unproven", ())
    report = compare(reference, candidate, limits.model_copy(update={"margin": 0.0}))
    assert report.verdict == "failed"


def test_worse_macro_f1_fails_only_when_the_interval_excludes_zero() -> None:
    labels = np.repeat([0, 1], 100)
    reference = np.zeros((200, 21), dtype=np.float32)
    reference[np.arange(200), labels] = 1
    limits = Limits(margin=1.0, probability=1.0, judge_macro_f1=True)
    for moved, verdict in ((1, "passed"), (20, "failed")):
        candidate = reference.copy()
        candidate[:moved, 1] = 2
        report = compare(reference, candidate, limits, labels)
        assert report.verdict == verdict
        assert report.labelled is not None
        assert report.labelled.macro_f1 is not None
        assert report.labelled.macro_f1 < 0
    # the same flips for the better are no fault
    assert compare(candidate, reference, limits, labels).verdict == "passed"


def test_macro_f1_leaves_out_classes_of_few_cells() -> None:
    labels = np.repeat([0, 1], [199, 1])
    reference = np.zeros((200, 21), dtype=np.float32)
    reference[np.arange(200), labels] = 1
    candidate = reference.copy()
    candidate[199, 0] = 2
    report = compare(reference, candidate, LIMITS["int8"], labels)
    assert report.labelled is not None
    assert report.labelled.macro_f1 == pytest.approx(2 * 199 / (2 * 199 + 1) - 1)
    few = compare(reference[:10], candidate[:10], LIMITS["int8"], labels[:10])
    assert few.labelled is not None
    assert few.labelled.macro_f1 is None


def test_unlabelled_cells_are_left_out_of_f1(reference: np.ndarray) -> None:
    labels = np.full(N, -1)
    assert compare(reference, reference, LIMITS["fp32"], labels).labelled is None
    labels[:40] = np.arange(40) % 2
    report = compare(reference, reference, LIMITS["fp32"], labels)
    assert report.labelled is not None
    assert report.labelled.n == 40


def test_margin_bins_count_every_cell(reference: np.ndarray) -> None:
    report = compare(reference, swap_decision(reference, 3, "LYT"), LIMITS["fp32"])
    assert sum(bin_.cells for bin_ in report.margins) == N
    assert sum(bin_.flips for bin_ in report.margins) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_an_error(reference: np.ndarray, value: float) -> None:
    broken = reference.copy()
    broken[5, 2] = value
    with pytest.raises(ParityError, match="candidate's logits are not finite .* row 5"):
        compare(reference, broken, LIMITS["fp32"])
    with pytest.raises(ParityError, match="reference's"):
        compare(broken, reference, LIMITS["fp32"])


def test_shapes_have_to_agree(reference: np.ndarray) -> None:
    with pytest.raises(ParityError, match="compare the same cells"):
        compare(reference, reference[:-1], LIMITS["fp32"])
    with pytest.raises(ParityError):
        compare(reference[:0], reference[:0], LIMITS["fp32"])


def test_wilson_lower_by_hand() -> None:
    # 10 of 10: (1 + z²/20 - z·sqrt(z²/400)) / (1 + z²/10) = 1 / (1 + z²/10)
    assert wilson_lower(10, 10) == pytest.approx(1 / (1 + 1.959964**2 / 10), abs=1e-6)
    assert wilson_lower(0, 10) == pytest.approx(0.0, abs=1e-9)
    assert wilson_lower(0, 0) == 0.0
    assert wilson_lower(81, 100) == pytest.approx(0.7222, abs=1e-4)  # Wilson 1927's form, by hand


def test_softmax_survives_large_logits() -> None:
    probabilities = softmax(np.array([[1e4, 0.0]], dtype=np.float32))
    assert probabilities.tolist() == [[1.0, 0.0]]
