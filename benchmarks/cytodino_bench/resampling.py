"""Does a review threshold keep its promise? Calibration and test part, divided again and again."""

from dataclasses import dataclass
from statistics import mean

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.calibration import Targets, calibrate
from cytodino.calibration.evidence import weigh_confidence
from cytodino.calibration.file import ModelCalibration
from cytodino.calibration.threshold import Outcomes

__all__ = ["LabelledLogits", "Resampling", "Single", "naive_threshold", "judge_split", "resample"]


@dataclass(frozen=True)
class LabelledLogits:
    """What a model says of some labelled cells."""

    logits: NDArray[np.float32]
    """(n, 21)"""
    labels: NDArray[np.int64]
    """(n,), class indices."""
    ids: list[str]

    def pick(self, rows: NDArray[np.int64]) -> "LabelledLogits":
        """Return some of the cells."""
        return LabelledLogits(
            self.logits[rows], self.labels[rows], [self.ids[row] for row in rows.tolist()]
        )

    def join(self, other: "LabelledLogits") -> "LabelledLogits":
        """Put two sets of cells one after the other."""
        return LabelledLogits(
            np.concatenate([self.logits, other.logits]),
            np.concatenate([self.labels, other.labels]),
            [*self.ids, *other.ids],
        )


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Single(_Record):
    """The run's own division: fitted on its calibration part, looked at on other cells."""

    cells: int
    temperature: float
    ece_raw: float
    ece_calibrated: float
    nll_raw: float
    nll_calibrated: float
    threshold: float | None
    """None where nothing could be promised."""
    reason: str | None
    accepted: int | None
    accuracy: float | None
    """Of accepted cells."""
    held: bool | None
    """Whether no rate among accepted cells was above its limit."""
    distance: float
    """Kolmogorov-Smirnov, to the calibration cells."""
    allowed: float
    shifted: bool


class Resampling(_Record):
    """What came of all divisions at one set of targets."""

    targets: Targets
    rounds: int
    calibration_cells: int
    test_cells: int
    given: int
    """Rounds in which a threshold could be promised."""
    broken: int
    """Rounds in which more of the accepted test cells were wrong than allowed. Chance among the
    test cells adds to these: at a true rate just at the limit it is every second."""
    broken_clearly: int
    """Rounds in which the rate was above the limit on the cells of both parts together, too: the
    nearest to the truth that there is."""
    coverage: float | None
    """Mean share of test cells accepted, where a threshold was promised."""
    naive_given: int
    naive_broken: int
    """The same of the lowest threshold whose accepted calibration cells were accurate enough."""
    naive_broken_clearly: int
    false_alarms: int
    """Rounds in which the test cells were called shifted."""
    ece_raw: float
    """Mean over the rounds, as are the next three, on the test cells."""
    ece_calibrated: float
    nll_raw: float
    nll_calibrated: float


def judge_split(
    calibration: LabelledLogits, test: LabelledLogits, targets: Targets, *, seed: int = 0
) -> Single:
    """Calibrate on one set of cells and look at another."""
    fitted = calibrate(calibration.logits, calibration.labels, calibration.ids, targets, seed=seed)
    model = ModelCalibration(
        variant="fp32", engine="pytorch", provider="cpu", machine="", calibration=fitted
    )
    found = weigh_confidence(test.logits, test.labels, model)
    assert found.calibrated is not None  # there is a calibration
    assert found.shift is not None
    accepted = found.accepted
    return Single(
        cells=len(test.labels),
        temperature=fitted.temperature,
        ece_raw=found.raw.reliability.ece,
        ece_calibrated=found.calibrated.reliability.ece,
        nll_raw=found.raw.nll,
        nll_calibrated=found.calibrated.nll,
        threshold=None if accepted is None else accepted.promised.threshold,
        reason=None if found.refusal is None else found.refusal.reason,
        accepted=None if accepted is None else accepted.accepted,
        accuracy=None if accepted is None else accepted.accuracy,
        held=None if accepted is None else accepted.held,
        distance=found.shift.distance,
        allowed=found.shift.allowed,
        shifted=found.shift.shifted,
    )


def resample(
    pool: LabelledLogits, calibration_cells: int, targets: Targets, *, rounds: int = 100
) -> Resampling:
    """Divide cells into calibration and test part at random, again and again.

    Parameters
    ----------
    pool : LabelledLogits
        Both parts together; nothing was trained or chosen on them.
    calibration_cells : int
        How many of them calibrate.
    targets : Targets
    rounds : int
    """
    given, naive = _Tally(), _Tally()
    singles, coverages, alarms = [], [], 0
    for seed in range(rounds):
        order = np.random.default_rng([7, seed]).permutation(len(pool.labels))
        calibration = pool.pick(order[:calibration_cells])
        test = pool.pick(order[calibration_cells:])
        single = judge_split(calibration, test, targets, seed=seed)
        singles.append(single)
        alarms += single.shifted
        given.add(single.threshold, single.temperature, test, pool, targets)
        if single.accepted is not None:
            coverages.append(single.accepted / single.cells)
        lowest = naive_threshold(calibration, single.temperature, targets)
        naive.add(lowest, single.temperature, test, pool, targets)
    return Resampling(
        targets=targets,
        rounds=rounds,
        calibration_cells=calibration_cells,
        test_cells=len(pool.labels) - calibration_cells,
        given=given.given,
        broken=given.broken,
        broken_clearly=given.broken_clearly,
        coverage=mean(coverages) if coverages else None,
        naive_given=naive.given,
        naive_broken=naive.broken,
        naive_broken_clearly=naive.broken_clearly,
        false_alarms=alarms,
        ece_raw=mean(one.ece_raw for one in singles),
        ece_calibrated=mean(one.ece_calibrated for one in singles),
        nll_raw=mean(one.nll_raw for one in singles),
        nll_calibrated=mean(one.nll_calibrated for one in singles),
    )


def naive_threshold(cells: LabelledLogits, temperature: float, targets: Targets) -> float | None:
    """Find the lowest threshold whose accepted cells were accurate enough, as many would."""
    outcomes = Outcomes.of(cells.logits, cells.labels, temperature)
    order = np.argsort(-outcomes.scores, kind="stable")
    order = order[outcomes.scores[order] > 0]
    counts = np.arange(1, len(order) + 1)
    fine = np.ones(len(order), dtype=bool)
    for kind, limit in targets.limits.items():
        fine &= np.cumsum(outcomes.errors[kind][order]) <= limit * counts
    kept = np.flatnonzero(fine)
    return float(outcomes.scores[order[kept[-1]]]) if len(kept) else None


@dataclass
class _Tally:
    """Thresholds by what became of them."""

    given: int = 0
    broken: int = 0
    broken_clearly: int = 0

    def add(
        self,
        threshold: float | None,
        temperature: float,
        test: LabelledLogits,
        pool: LabelledLogits,
        targets: Targets,
    ) -> None:
        if threshold is not None:
            self.given += 1
            broken = _is_broken(threshold, temperature, test, targets)
            self.broken += broken
            self.broken_clearly += broken and _is_broken(threshold, temperature, pool, targets)


def _is_broken(
    threshold: float, temperature: float, cells: LabelledLogits, targets: Targets
) -> bool:
    outcomes = Outcomes.of(cells.logits, cells.labels, temperature)
    accepted, bounds = outcomes.bounds(threshold, targets)
    return any(bound.count > bound.limit * accepted for bound in bounds)
