import numpy as np
import pytest

from cytodino.calibration.reliability import measure_reliability, measure_risk
from cytodino.errors import InputError


def test_ece_of_four_cells_by_hand():
    confidences = np.array([0.65, 0.65, 0.95, 0.95])
    right = np.array([True, False, True, True])
    found = measure_reliability(confidences, right)
    # |0.5 - 0.65| and |1 - 0.95|, half of the cells each.
    assert found.ece == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)
    assert found.overconfidence == pytest.approx(0.8 - 0.75)
    filled = [one for one in found.bins if one.cells]
    assert [(one.cells, one.accuracy) for one in filled] == [(2, 0.5), (2, 1.0)]
    assert [one.confidence for one in filled] == pytest.approx([0.65, 0.95])


def test_an_upper_edge_belongs_to_its_bin_and_both_ends_are_counted():
    found = measure_reliability(np.array([0.0, 1 / 15, 0.0667, 1.0]), np.ones(4, dtype=bool))
    assert [one.cells for one in found.bins] == [2, 1, *[0] * 11, 0, 1]
    assert found.bins[3].accuracy is None


def test_cells_that_keep_what_they_claim_have_little_error():
    generator = np.random.default_rng(0)
    confidences = generator.uniform(0.3, 1.0, 50_000)
    right = generator.random(50_000) < confidences
    assert measure_reliability(confidences, right).ece < 0.01
    assert measure_reliability(np.minimum(1, confidences + 0.1), right).ece > 0.08


def test_risk_and_coverage_by_hand():
    confidences = np.array([0.5, 0.9, 0.7, 0.7])
    wrong = np.array([True, False, True, False])
    found = measure_risk(confidences, wrong)
    assert [(p.coverage, p.risk, p.threshold) for p in found.points] == [
        (0.25, 0.0, 0.9),
        (0.75, pytest.approx(1 / 3), 0.7),  # cells of one confidence stay together
        (1.0, 0.5, 0.5),
    ]
    assert found.area == pytest.approx(0.25 * 0 + 0.5 / 3 + 0.25 * 0.5)


def test_a_long_curve_keeps_its_ends_and_few_points():
    confidences = np.random.default_rng(0).random(5000)
    found = measure_risk(confidences, confidences < 0.2)
    assert len(found.points) == 200
    assert (found.points[0].coverage, found.points[-1].coverage) == (1 / 5000, 1.0)


def test_no_cell_is_refused():
    with pytest.raises(InputError):
        measure_reliability(np.zeros(0), np.zeros(0, dtype=bool))
    with pytest.raises(InputError):
        measure_risk(np.zeros(2), np.zeros(1, dtype=bool))
