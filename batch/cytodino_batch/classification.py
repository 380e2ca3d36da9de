"""What came of one archive's rows, and what follows from it for each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cytodino.calibration.temperature import soften
from cytodino.taxonomy import CODES, CRITICAL, N_CLASSES
from cytodino.texts import Texts
from cytodino_batch.stream import Block, QuarantinedRow

ROWS_AT_ONCE = 2048
"""Rows whose probabilities are in memory together, 1.5 MB with what it takes to compute them."""

_CRITICAL_INDICES = np.array([index for index, code in enumerate(CODES) if code in CRITICAL])


@dataclass(frozen=True)
class Classification:
    """What came of one archive's rows."""

    rows: NDArray[np.int64]
    """(k,), the rows that were classified, ascending."""
    logits: NDArray[np.float32]
    """(k, 21)"""
    quarantined: tuple[QuarantinedRow, ...]
    ids: Sequence[str]
    """One a row of the archive, classified or not."""
    coords: NDArray[np.generic] | None
    """(n, 2), x and y a row of the archive, in its own unit, usually pixels of the slide."""
    review_below: float
    """Confidence, 0 to 1, below which a cell is for review; critical classes always are."""
    temperature: float = 1.0
    """Logits are divided by it; 1 leaves the model's own probabilities."""

    @classmethod
    def from_blocks(
        cls,
        blocks: Iterable[Block],
        *,
        rows: int,
        classified: int,
        review_below: float,
        temperature: float = 1.0,
    ) -> "Classification":
        """Put the blocks of a whole archive together, each let go of before the next is asked for.

        Parameters
        ----------
        blocks : iterable of Block
            In row order, without a gap, with ids, and with coordinates or without.
        rows, classified : int
            Of the archive, and of those in the blocks' logits.
        review_below, temperature : float
        """
        numbers = np.empty(classified, dtype=np.int64)
        logits = np.empty((classified, N_CLASSES), dtype=np.float32)
        coords: NDArray[np.generic] | None = None
        quarantined: list[QuarantinedRow] = []
        ids = Texts()
        done = 0
        for block in blocks:
            here = slice(done, done + len(block.rows))
            numbers[here], logits[here] = block.rows, block.logits
            done = here.stop
            quarantined += block.quarantined
            ids.extend(block.ids)
            if block.coords is not None:
                if coords is None:
                    coords = np.empty((rows, 2), dtype=block.coords.dtype)
                coords[block.start : block.stop] = block.coords
        return cls(numbers, logits, tuple(quarantined), ids, coords, review_below, temperature)

    def parts(self) -> Iterator[slice]:
        """Cut the classified rows into parts of which all can be held at once."""
        for start in range(0, len(self.rows), ROWS_AT_ONCE):
            yield slice(start, min(start + ROWS_AT_ONCE, len(self.rows)))

    def probabilities(self, part: slice) -> NDArray[np.float32]:
        """(rows of the part, 21), at the temperature; every decision is taken on these."""
        return soften(self.logits[part], self.temperature).astype(np.float32)

    @cached_property
    def ranking(self) -> NDArray[np.int64]:
        """(k, 2), class indices of the largest and second largest logit."""
        found = np.empty((len(self.rows), 2), dtype=np.int64)
        for part in self.parts():
            found[part] = np.argsort(-self.logits[part], axis=1, kind="stable")[:, :2]
        return found

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """(k,), probability of the class that was chosen, 0 to 1."""
        found = np.empty(len(self.rows), dtype=np.float32)
        for part in self.parts():
            best = self.ranking[part, :1]
            found[part] = np.take_along_axis(self.probabilities(part), best, axis=1)[:, 0]
        return found

    @cached_property
    def critical(self) -> NDArray[np.bool_]:
        """(k,), whether the class that was chosen is one of the critical ones."""
        return np.isin(self.ranking[:, 0], _CRITICAL_INDICES)

    @cached_property
    def critical_runner_up(self) -> NDArray[np.bool_]:
        """(k,), whether the second most probable class is one of the critical ones."""
        return np.isin(self.ranking[:, 1], _CRITICAL_INDICES)

    @cached_property
    def review(self) -> NDArray[np.bool_]:
        """(k,), whether a person should look: critical, or confidence below `review_below`."""
        return self.critical | (self.confidence < self.review_below)

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """(k,), as `score_cells` has it: the confidence, 1 less for a cell called critical."""
        return np.asarray(self.confidence - self.critical, dtype=np.float32)
