import numpy as np
import pytest
from scipy.stats import ks_2samp

from cytodino.calibration.shift import detect_shift, sample_scores
from cytodino.errors import InputError


def draw(generator: np.random.Generator, n: int, power: float = 1.0) -> np.ndarray:
    return (generator.random(n) ** power).astype(np.float32)


def test_the_distance_is_scipys_where_all_scores_are_kept():
    generator = np.random.default_rng(0)
    for n, m in ((40, 700), (900, 300), (5, 5)):
        archive, cells = draw(generator, n, 1.3), draw(generator, m)
        # Ours looks from the calibration cells' side: the largest gap lies at one of them or
        # just before one.
        exact = ks_2samp(archive, cells).statistic
        assert exact - 1 / m <= detect_shift(archive, sample_scores(cells)).distance <= exact + 1e-6


def test_unchanged_cells_are_hardly_ever_called_shifted():
    generator = np.random.default_rng(1)
    alarms = 0
    for n, m in ((30, 200), (3000, 200), (500, 5000)):
        for _ in range(200):
            alarms += detect_shift(draw(generator, n), sample_scores(draw(generator, m))).shifted
    assert alarms <= 6


def test_what_is_called_shifted_is_so_by_the_exact_test_too():
    generator = np.random.default_rng(5)
    called = 0
    for n, m, power in ((30, 40, 2.5), (107, 320, 1.5), (400, 133, 1.4), (50, 50, 2.0)):
        for _ in range(40):
            archive, cells = draw(generator, n, power), draw(generator, m)
            if detect_shift(archive, sample_scores(cells)).shifted:
                called += 1
                assert ks_2samp(archive, cells, method="exact").pvalue <= 0.01
    assert called > 30


def test_less_sure_more_critical_and_fewer_accepted_cells_are_seen():
    generator = np.random.default_rng(2)
    reference = sample_scores(draw(generator, 1000, 0.3))
    assert detect_shift(draw(generator, 500, 0.6), reference).shifted
    critical = draw(generator, 500, 0.3)
    critical[:150] -= 1
    found = detect_shift(critical, reference)
    assert found.shifted
    assert found.distance > found.allowed
    assert (found.cells, found.calibration_cells) == (500, 1000)


def test_a_thinned_sample_misses_next_to_nothing_and_makes_nothing_up():
    generator = np.random.default_rng(3)
    cells, archive = draw(generator, 20_000), draw(generator, 2000, 1.2)
    kept = sample_scores(cells)
    assert len(kept.scores) == 1000
    assert kept.shares[-1] == 1.0
    exact = ks_2samp(archive, cells).statistic
    assert exact - 0.002 < detect_shift(archive, kept).distance <= exact + 1e-6


def test_scores_come_back_from_text_as_they_were():
    cells = draw(np.random.default_rng(4), 300)
    kept = sample_scores(cells)
    again = type(kept).model_validate_json(kept.model_dump_json())
    assert np.array_equal(np.array(again.scores, dtype=np.float32), np.unique(cells))


def test_cells_of_one_score_are_no_shift():
    same = np.full(500, 0.9, dtype=np.float32)
    assert detect_shift(same, sample_scores(same)).distance == 0


def test_no_cell_is_refused():
    with pytest.raises(InputError):
        detect_shift(np.zeros(0, np.float32), sample_scores(np.zeros(1, np.float32)))
