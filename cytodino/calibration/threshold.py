"""A review threshold that keeps a promise about the cells that are not sent to review.

Learn then Test (Angelopoulos et al., arXiv 2110.01052, 2021) with exact binomial p-values. Each
threshold is a hypothesis: "among the cells that it accepts, the rate of errors is above the
limit". The accepted calibration cells are so many independent draws of the accepted cells to
come, so their errors are binomial, and the hypothesis is rejected where even a rate at the limit
would give as few errors with a probability of at most 1 - level.

Hypotheses are tested in a fixed sequence: from a start towards lower thresholds, each at the full
1 - level, until the first that is not rejected. Then no true one is rejected with more than
1 - level (Bonferroni over a hundred thresholds would cost most of the cells). The sequence has to
be fixed before the judging cells are looked at, so other cells choose it, and the temperature.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cytodino.calibration.temperature import soften
from cytodino.metrics import CRITICAL_AS_SAFE
from cytodino.statistics import binomial_tail, upper_bound
from cytodino.taxonomy import CODES, CRITICAL, N_CLASSES

__all__ = ["ASSUMPTION", "RULE", "GROUPED", "Bound", "Guarantee", "Outcomes", "Refusal", "Targets",
           "find_threshold", "score_cells"]  # fmt: skip

RULE = (
    "accepted: confidence at or above the threshold, and not called a critical class; "
    "every other cell is for review"
)

ASSUMPTION = (
    "for cells like the calibration cells, each drawn by itself from the same mix: the same "
    "preparation, stain and camera, the same prevalence of the classes; over all such cells, "
    "not for each slide or patient"
)

GROUPED = (
    "; but the calibration cells are all those of some patients or slides, and such cells are "
    "alike: the true confidence is lower than stated, by how much the cells cannot tell"
)
"""Added to the assumption where groups were kept whole."""

STEPS = 100
"""Thresholds of the sequence: a hundredth of the cells apart."""

FLOOR = 0.047
"""Threshold that accepts every cell not called critical: the largest of 21 is at least 1 / 21."""

Kind = Literal["errors", "critical errors"]

_CRITICAL = np.array([code in CRITICAL for code in CODES])  # (21,)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Targets(_Record):
    """What is to be promised about accepted cells."""

    accuracy: float | None = Field(default=0.95, gt=0, lt=1)
    """Least share with the right class; the default is well above the 88 % of the published model
    on all cells, and well below what nobody could promise. None: not asked for."""
    critical_rate: float | None = Field(default=None, gt=0, lt=1)
    """Largest share that are critical cells called safe. None: not asked for."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Share of the calibrations for which the promise holds."""

    @model_validator(mode="after")
    def _ask_for_something(self) -> Self:
        if self.accuracy is None and self.critical_rate is None:
            raise ValueError("an accuracy or a rate of critical errors has to be asked for")
        return self

    @property
    def limits(self) -> dict[Kind, float]:
        """Largest rate of each kind of error among accepted cells."""
        found: dict[Kind, float] = {}
        if self.accuracy is not None:
            found["errors"] = round(1 - self.accuracy, 12)
        if self.critical_rate is not None:
            found["critical errors"] = self.critical_rate
        return found

    def sentence(self) -> str:
        """Say what is promised."""
        asked = []
        if self.accuracy is not None:
            asked.append(f"at least {100 * self.accuracy:g} % of the accepted cells are right")
        if self.critical_rate is not None:
            asked.append(
                f"at most {100 * self.critical_rate:g} % of the accepted cells are critical "
                "cells called safe"
            )
        return f"{' and '.join(asked)}, at {100 * self.level:g} % confidence"


class Bound(_Record):
    """One limit, and what the judging cells say of it."""

    kind: Kind
    limit: float
    """Largest rate that may be, 0 to 1."""
    count: int
    """Accepted judging cells that were wrong in this way."""
    upper: float
    """Exact upper bound of the rate at the level of the targets, 0 to 1; at most the limit."""


class Guarantee(_Record):
    """A threshold, and what is promised of the cells that it accepts."""

    threshold: float
    """Least confidence of an accepted cell, 0 to 1."""
    targets: Targets
    accepted: int
    """Judging cells that it accepts."""
    judged: int
    """Judging cells."""
    bounds: tuple[Bound, ...]
    rule: str = RULE
    assumption: str = ASSUMPTION

    @property
    def coverage(self) -> float:
        """Share of the judging cells that is accepted, 0 to 1."""
        return self.accepted / self.judged

    def sentence(self) -> str:
        """Say what is promised, and on what it rests."""
        return (
            f"{self.targets.sentence()}, {self.assumption} ({self.accepted} of {self.judged} "
            "calibration cells accepted)"
        )


class Refusal(_Record):
    """Why no threshold can be promised."""

    targets: Targets
    reason: str


@dataclass(frozen=True)
class Outcomes:
    """What became of some labelled cells."""

    scores: NDArray[np.float32]
    """(n,), see `score_cells`."""
    errors: dict[Kind, NDArray[np.bool_]]
    """(n,) by kind of error."""

    @classmethod
    def of(
        cls, logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float
    ) -> "Outcomes":
        """Score cells; logits are (n, 21), labels (n,) class indices."""
        called = logits.argmax(axis=1)
        return cls(
            scores=score_cells(logits, temperature),
            errors={
                "errors": called != labels,
                "critical errors": CRITICAL_AS_SAFE[labels, called],
            },
        )

    def bounds(self, threshold: float, targets: Targets) -> tuple[int, tuple[Bound, ...]]:
        """Count what a threshold accepts, and bound each rate that is asked for."""
        accepted = self.scores >= threshold
        n = int(accepted.sum())
        counts = {kind: int(self.errors[kind][accepted].sum()) for kind in targets.limits}
        return n, tuple(
            Bound(kind=kind, limit=limit, count=counts[kind],
                  upper=upper_bound(counts[kind], n, targets.level))
            for kind, limit in targets.limits.items()
        )  # fmt: skip

    def p_value(self, threshold: float, targets: Targets) -> float:
        """Test "some rate is above its limit": it takes every limit's own test to reject it."""
        n, bounds = self.bounds(threshold, targets)
        return max(binomial_tail(bound.count, n, bound.limit) for bound in bounds)

    def outlook(self, threshold: float, targets: Targets, cells: int) -> float:
        """Guess the p-value on so many other cells, with half an error more than was seen here."""
        n, bounds = self.bounds(threshold, targets)
        scale = cells / len(self.scores)
        return max(
            binomial_tail(round((bound.count + 0.5) * scale), round(n * scale), bound.limit)
            for bound in bounds
        )


def score_cells(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Put each cell on one scale: a threshold t above 0 accepts the cells of a score of t or more.

    Parameters
    ----------
    logits : (n, 21)
    temperature : float

    Returns
    -------
    float32, (n,)
        The top-1 probability, and 1 less for a cell called critical, which is always reviewed.
    """
    if logits.shape[1:] != (N_CLASSES,):
        raise ValueError(f"logits of shape {logits.shape} instead of (n, {N_CLASSES})")
    confidence: NDArray[np.float32] = soften(logits, temperature).max(axis=1).astype(np.float32)
    called_critical = _CRITICAL[logits.argmax(axis=1)]  # (n,)
    return np.asarray(confidence - called_critical, dtype=np.float32)


def find_threshold(
    exploring: Outcomes, judging: Outcomes, targets: Targets, *, grouped: bool = False
) -> Guarantee | Refusal:
    """Find the lowest threshold that the judging cells let one promise.

    Parameters
    ----------
    exploring : Outcomes
        Cells that choose the sequence, none of them among the judging ones.
    judging : Outcomes
        Cells whose errors are the evidence; scored by a temperature that they had no part in.
    targets : Targets
    grouped : bool
        Whether the cells are known to be the whole of some patients or slides; it is said.
    """
    proven = None
    for threshold in _sequence(exploring, targets, len(judging.scores)):
        if judging.p_value(threshold, targets) > 1 - targets.level:
            break
        proven = threshold
    if proven is None:
        return Refusal(targets=targets, reason=_explain(exploring, judging, targets))
    accepted, bounds = judging.bounds(proven, targets)
    return Guarantee(
        threshold=proven,
        targets=targets,
        accepted=accepted,
        judged=len(judging.scores),
        bounds=bounds,
        assumption=ASSUMPTION + GROUPED if grouped else ASSUMPTION,
    )


def _sequence(exploring: Outcomes, targets: Targets, cells: int) -> Iterator[float]:
    """Yield thresholds from the one that looks best for so many judging cells, downwards."""
    acceptable = np.sort(exploring.scores[exploring.scores > 0])[::-1]
    places = np.linspace(0, len(acceptable) - 1, STEPS).round().astype(int)
    values = acceptable[places] if len(acceptable) else ()
    grid = sorted({FLOOR, *(round(float(value), 6) for value in values)}, reverse=True)
    outlook = [exploring.outlook(threshold, targets, cells) for threshold in grid]
    # The lower of equals: it accepts more cells.
    start = max(place for place, p in enumerate(outlook) if p == min(outlook))
    yield from grid[start:]


def _explain(exploring: Outcomes, judging: Outcomes, targets: Targets) -> str:
    acceptable = int((judging.scores > 0).sum())
    strictest = min(targets.limits.values())
    needed = math.ceil(math.log(1 - targets.level) / math.log(1 - strictest))
    if acceptable < needed:
        return (
            f"too few cells: {acceptable} of {len(judging.scores)} judging cells are not called "
            f"critical, and even without an error {needed} accepted cells are needed"
        )
    start = next(_sequence(exploring, targets, len(judging.scores)))
    accepted, bounds = judging.bounds(start, targets)
    counted = ", ".join(
        f"{bound.count} {bound.kind}, so that up to {100 * bound.upper:.1f} % are possible where "
        f"{100 * bound.limit:g} % are allowed"
        for bound in bounds
    )
    return (
        f"the model is not good enough on these cells, or they are too few: at the most promising "
        f"threshold, {start:g}, {accepted} of {len(judging.scores)} cells are accepted with "
        f"{counted}"
    )
