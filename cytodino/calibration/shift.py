"""Whether cells look like those that the guarantee was made on.

A promise about accepted cells holds for cells like the calibration cells. What can be seen of new
cells without a label is the distribution of their scores, so that is held against the calibration
cells' own by the Kolmogorov-Smirnov distance, the largest gap between the two shares of cells
below any score. Of two samples from one population it is beyond
sqrt(ln(C / a) (n + m) / 2nm) with a probability of at most a: the inequality of Dvoretzky, Kiefer
and Wolfowitz for two samples, for which Wei and Dudley (Stat. Probab. Lett. 82, 2012) found C = 2
to do but for some small samples of one size; C = e costs little and allows for those.
On the scale of `score_cells` it takes in the share that is accepted, the share called
critical, and how sure the model is. A shift that leaves all of these alone cannot be seen.
"""

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.errors import InputError

__all__ = ["ScoreSample", "Shift", "detect_shift", "sample_scores"]

MOST_KEPT = 1000
"""Scores that travel with a calibration. Between those kept a gap can only be missed, never made
up, so a false alarm stays as rare."""

FALSE_ALARMS = 0.01
"""Share of the archives of unchanged cells that are called shifted, at most."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScoreSample(_Record):
    """Scores of the judging calibration cells, which had no part in the temperature."""

    cells: int
    scores: tuple[float, ...]
    """Ascending; some of them where there are many."""
    shares: tuple[float, ...]
    """Share of all cells at or below each."""


class Shift(_Record):
    """What came of the comparison."""

    cells: int
    """Of the archive."""
    calibration_cells: int
    distance: float
    """Kolmogorov-Smirnov, 0 to 1."""
    allowed: float
    """Distance that chance explains."""
    false_alarms: float
    """Share of archives of unchanged cells that would be beyond it, at most."""
    shifted: bool


def sample_scores(scores: NDArray[np.float32]) -> ScoreSample:
    """Keep what is needed of the calibration cells' scores, (n,), n >= 1."""
    ordered = np.sort(scores)
    places = np.unique(np.linspace(0, len(ordered) - 1, MOST_KEPT).round().astype(int))
    kept = np.unique(ordered[places])
    return ScoreSample(
        cells=len(ordered),
        # The shortest text that gives the same float32 again.
        scores=tuple(float(str(value)) for value in kept),
        shares=tuple(
            round(float(share), 8)
            for share in np.searchsorted(ordered, kept, side="right") / len(ordered)
        ),
    )


def detect_shift(scores: NDArray[np.float32], reference: ScoreSample) -> Shift:
    """Hold the scores of an archive's cells against the calibration cells'.

    Parameters
    ----------
    scores : float32, (n,), n >= 1
    reference : ScoreSample

    Raises
    ------
    InputError
        If there is no cell.
    """
    if len(scores) == 0:
        raise InputError("there is no cell to look for shift in", mend="give at least one cell")
    at = np.array(reference.scores, dtype=np.float32)
    here = np.searchsorted(np.sort(scores), at, side="right") / len(scores)
    distance = float(np.abs(here - np.array(reference.shares)).max())
    allowed = _allowance(len(scores), reference.cells)
    return Shift(
        cells=len(scores),
        calibration_cells=reference.cells,
        distance=round(distance, 6),
        allowed=round(allowed, 6),
        false_alarms=FALSE_ALARMS,
        shifted=distance > allowed,
    )


def _allowance(n: int, m: int) -> float:
    return math.sqrt(math.log(math.e / FALSE_ALARMS) * (n + m) / (2 * n * m))
