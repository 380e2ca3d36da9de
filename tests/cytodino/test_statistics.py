import pytest
from scipy.stats import beta, binom

from cytodino.statistics import binomial_tail, clopper_pearson, upper_bound, wilson_lower


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Percentages as in tables of exact limits, such as Documenta Geigy's for n = 100.
        (0, 10, 0.0, 30.85),
        (10, 10, 69.15, 100.0),
        (0, 100, 0.0, 3.62),
        (1, 100, 0.03, 5.45),
        (5, 100, 1.64, 11.28),
        (20, 100, 12.67, 29.18),
        (25, 500, 3.26, 7.29),
        (500, 500, 99.26, 100.0),
    ],
)
def test_published_exact_limits(successes, n, low, high):
    found = [round(100 * end, 2) for end in clopper_pearson(successes, n)]
    assert found == [low, high]


def test_nothing_of_n_has_its_closed_form():
    assert clopper_pearson(0, 500)[1] == pytest.approx(1 - 0.025 ** (1 / 500), rel=1e-14)


def test_no_trials_tell_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("n", [1, 2, 7, 100, 500, 3_001, 50_000, 1_000_000])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_the_ends_are_quantiles_of_beta_distributions(n, level):
    tail = (1 - level) / 2
    for k in sorted({0, 1, n // 20, n // 5, n // 2, n - 1, n}):
        low, high = clopper_pearson(k, n, level)
        assert low == pytest.approx(beta.ppf(tail, k, n - k + 1) if k else 0.0, rel=1e-9)
        assert high == pytest.approx(beta.isf(tail, k + 1, n - k) if k < n else 1.0, rel=1e-9)


def test_every_count_of_a_small_sample_is_solved():
    for n in range(1, 40):
        for k in range(1, n):
            low, high = clopper_pearson(k, n)
            assert low == pytest.approx(beta.ppf(0.025, k, n - k + 1), rel=1e-12)
            assert low < k / n < high


def test_wilson_lies_inside_the_exact_interval():
    assert clopper_pearson(25, 500)[0] < wilson_lower(25, 500) < 0.05


@pytest.mark.parametrize("n", [1, 5, 59, 400, 17_000])
@pytest.mark.parametrize("p", [0.001, 0.05, 0.5, 0.97])
def test_the_binomial_tail_is_scipys(n, p):
    for k in sorted({0, 1, round(n * p / 2), round(n * p), min(n, round(n * p) + 3), n - 1, n}):
        assert binomial_tail(k, n, p) == pytest.approx(binom.cdf(k, n, p), rel=1e-9, abs=1e-15)
    assert binomial_tail(0, 0, p) == 1.0


def test_the_binomial_tail_by_hand():
    assert binomial_tail(1, 3, 0.5) == pytest.approx(0.5)
    assert binomial_tail(0, 59, 0.05) == pytest.approx(0.95**59)


def test_the_upper_bound_rejects_what_the_exact_test_rejects():
    for n in (10, 59, 300):
        for k in range(0, n + 1, max(1, n // 20)):
            upper = upper_bound(k, n, 0.95)
            if k < n:
                assert binomial_tail(k, n, upper) == pytest.approx(0.05, rel=1e-9)
            assert (upper <= 0.05) == (binomial_tail(k, n, 0.05) <= 0.05)
    assert upper_bound(0, 0, 0.95) == 1.0
