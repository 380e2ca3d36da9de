import pytest
from scipy.stats import beta

from cytodino.statistics import clopper_pearson, wilson_lower


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
