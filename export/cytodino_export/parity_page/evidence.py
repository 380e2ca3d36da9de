"""What the page shows and the parity chain does not hold: pixels, labels, logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytodino.errors import ParityError
from cytodino.parity import margin_of
from cytodino.statistics import softmax
from cytodino.taxonomy import N_CLASSES
from cytodino_export.chain import VariantResult

if TYPE_CHECKING:
    from cytodino_export.fp16 import Fp16Report
    from cytodino_export.fp16_ranges import RangeReport
    from cytodino_export.int8 import Int8Report

__all__ = ["Changes", "Evidence", "Key"]

Key = tuple[str, str, str]
"""Variant, engine, provider: as in `VariantResult.variant` and its verdict."""


@dataclass(frozen=True)
class Evidence:
    """The acceptance cells, and what each model answered on them.

    Raises
    ------
    ParityError
        If crops, labels, ids and logits differ in number, or logits are not (n, 21).
    """

    crops: Sequence[NDArray[np.uint8]]
    """uint8, each (h, w, 3), RGB: the acceptance cells in the order of the reports' rows."""
    labels: NDArray[np.int64]
    """int64 (n,), class indices, -1 where a cell has none."""
    ids: Sequence[str]
    reference: NDArray[np.float32]
    """float32 (n, 21), PyTorch."""
    candidates: Mapping[Key, NDArray[np.float32]] = field(default_factory=dict)
    """float32 (n, 21) of what ran; a variant that did not open has none."""
    fp16: "Fp16Report | None" = None
    fp16_ranges: "RangeReport | None" = None
    int8: "Int8Report | None" = None

    def __post_init__(self) -> None:
        n = len(self.crops)
        if not len(self.labels) == len(self.ids) == n:
            raise ParityError(
                f"{n} crops, {len(self.labels)} labels and {len(self.ids)} ids",
                mend="give the acceptance cells' own",
            )
        named = {" on ".join(key[:2]): logits for key, logits in self.candidates.items()}
        for name, logits in {"the reference": self.reference, **named}.items():
            if logits.shape != (n, N_CLASSES):
                raise ParityError(
                    f"the logits of {name} are {logits.shape} for {n} cells",
                    mend=f"give those of the acceptance cells, ({n}, {N_CLASSES})",
                )

    def changes(self, result: VariantResult) -> "Changes | None":
        """Compare a variant's answers cell by cell; None where there are none that are finite."""
        verdict = result.verdict
        logits = self.candidates.get((result.variant, verdict.engine, verdict.provider))
        if logits is None or not len(logits) or not np.isfinite(logits).all():
            return None
        return Changes(softmax(self.reference), softmax(logits), logits - self.reference)


@dataclass(frozen=True)
class Changes:
    """Two models' answers on the same cells."""

    reference: NDArray[np.float64]
    """float64 (n, 21), probabilities."""
    candidate: NDArray[np.float64]
    """float64 (n, 21), probabilities."""
    logits: NDArray[np.float32]
    """float32 (n, 21), candidate minus reference."""

    @property
    def largest(self) -> NDArray[np.float64]:
        """Largest change of any probability in each cell, (n,)."""
        return np.asarray(np.abs(self.candidate - self.reference).max(axis=1))

    @property
    def flipped(self) -> NDArray[np.bool_]:
        """Where the top-1 class differs, (n,)."""
        return np.asarray(self.reference.argmax(axis=1) != self.candidate.argmax(axis=1))

    @property
    def margins(self) -> NDArray[np.float64]:
        """The reference's top-1 minus top-2 probability, (n,)."""
        return margin_of(self.reference)

    def worst(self, count: int) -> list[int]:
        """Rows of the cells to look at: flips first, then by the largest change."""
        order = np.lexsort((-self.largest, ~self.flipped))
        return [int(row) for row in order[:count]]
