"""One model's calibration: its temperature, its review threshold, and how its cells looked."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from cytodino.calibration.reliability import BINNING, measure_reliability
from cytodino.calibration.shift import ScoreSample, sample_scores
from cytodino.calibration.temperature import (
    HIGHEST,
    LOWEST,
    fit_temperature,
    negative_log_likelihood,
    soften,
)
from cytodino.calibration.threshold import (
    Guarantee,
    Outcomes,
    Refusal,
    Targets,
    find_threshold,
)
from cytodino.errors import InputError

__all__ = ["FEWEST_CELLS", "Calibration", "Quality", "calibrate", "divide_cells"]

FEWEST_CELLS = 60
"""Labelled calibration cells; below, a temperature says more about the draw than the model."""

EXPLORING = 1 / 3
"""Share of the calibration cells that find the temperature and where to begin with thresholds; the
others judge, for the promise counts those alone."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quality(_Record):
    """How good the probabilities are on the judging cells."""

    ece: float
    """Expected calibration error, 0 to 1."""
    nll: float
    """Mean negative log-likelihood, nats."""


class Calibration(_Record):
    """What was learnt from calibration cells about one model's confidence."""

    temperature: float = Field(ge=LOWEST, le=HIGHEST)
    """Logits are divided by it."""
    exploring: int
    """Cells that found it."""
    judging: int
    """Cells that judged it, and the threshold."""
    seed: int
    """Of the division into the two, which goes by the cells' ids."""
    before: Quality
    """On the judging cells, at temperature 1."""
    after: Quality
    """On the judging cells, at the temperature found."""
    binning: str = BINNING
    review: Guarantee | Refusal
    """The threshold and what it promises, or why nothing can be promised."""
    sample: ScoreSample
    """How the judging cells scored, to tell whether others look like them."""

    @property
    def guarantee(self) -> Guarantee | None:
        """The threshold, where one could be promised."""
        return self.review if isinstance(self.review, Guarantee) else None


def calibrate(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    ids: Sequence[str],
    targets: Targets | None = None,
    *,
    seed: int = 0,
    grouped: bool = False,
) -> Calibration:
    """Fit temperature and review threshold on calibration cells.

    Parameters
    ----------
    logits : (n, 21), of cells that nothing else was chosen by
    labels : integers, (n,), class indices, -1 where a cell has none: it is left out
    ids : n names, each once
    targets : Targets, optional
        What is to be promised.
    seed : int
    grouped : bool
        Whether the cells are known to be the whole of some patients or slides; it is said.

    Raises
    ------
    InputError
        If fewer than `FEWEST_CELLS` cells have a label, the lengths differ, or a logit is not
        finite.
    """
    if not len(logits) == len(labels) == len(ids):
        raise InputError(f"{len(logits)} logits, {len(labels)} labels and {len(ids)} ids")
    known = np.flatnonzero(labels >= 0)
    if len(known) < FEWEST_CELLS:
        raise InputError(
            f"{len(known)} labelled calibration cells are too few",
            mend=f"give at least {FEWEST_CELLS}",
        )
    logits, labels = logits[known], labels[known]
    first, second = divide_cells([ids[row] for row in known.tolist()], seed=seed)
    temperature = fit_temperature(logits[first], labels[first])
    judged, truth = logits[second], labels[second]
    judging = Outcomes.of(judged, truth, temperature)
    return Calibration(
        temperature=temperature,
        exploring=len(first),
        judging=len(second),
        seed=seed,
        before=_measure(judged, truth, 1.0),
        after=_measure(judged, truth, temperature),
        review=find_threshold(
            Outcomes.of(logits[first], labels[first], temperature),
            judging,
            targets or Targets(),
            grouped=grouped,
        ),
        sample=sample_scores(judging.scores),
    )


def divide_cells(ids: Sequence[str], *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide cells into exploring and judging ones, by name and seed and not by their order.

    Returns
    -------
    int64, (e,) and int64, (n - e,)
        Positions in `ids`, in the order of the names: sums over them come out the same.
    """
    by_name = np.argsort(np.asarray(ids, dtype=object), kind="stable")
    drawn = np.random.default_rng(seed).permutation(by_name)
    count = round(EXPLORING * len(ids))
    chosen = np.isin(by_name, drawn[:count])
    return by_name[chosen], by_name[~chosen]


def _measure(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float
) -> Quality:
    confidences = soften(logits, temperature).max(axis=1)
    reliability = measure_reliability(confidences, logits.argmax(axis=1) == labels)
    return Quality(ece=reliability.ece, nll=negative_log_likelihood(logits, labels, temperature))
