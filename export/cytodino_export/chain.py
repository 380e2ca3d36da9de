"""What was measured from the adapter to the engine: `parity.json`, as a schema."""

from pydantic import BaseModel, ConfigDict

from cytodino.bundle.manifest import EngineVerdict
from cytodino.engines.base import EngineDescription
from cytodino.machine import Machine
from cytodino.parity import ParityReport
from cytodino_export.fp16 import Fp16Report
from cytodino_export.fp16_ranges import RangeReport
from cytodino_export.int8 import Int8Report

__all__ = ["Fp16Result", "Invariance", "Link", "ParityChain", "Speed", "VariantResult"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Link(_Frozen):
    """One comparison of the chain."""

    reference: str
    candidate: str
    cells: str
    """Which of the gate's cells: acceptance, golden, other sizes."""
    batch_size: int
    seconds: float
    """Wall time of the candidate."""
    report: ParityReport


class Invariance(_Frozen):
    """Largest change of a probability that a cell's neighbours in the batch make."""

    alone: float
    shuffled: float
    padded: float
    limit: float

    @property
    def failures(self) -> tuple[str, ...]:
        """Say which of the three is beyond the limit."""
        return tuple(
            f"a cell {how} changes by {value:.3g}, beyond {self.limit:g}"
            for how, value in (
                ("alone", self.alone),
                ("in a shuffled batch", self.shuffled),
                ("in a padded batch", self.padded),
            )
            if not value <= self.limit
        )


class Speed(_Frozen):
    """An INT8 variant's speed beside the best float variant's, calls taken by turns."""

    images_per_second: float
    against: str
    """Variant and engine of the float one."""
    against_images_per_second: float
    batch_size: int
    rounds: int

    @property
    def worth_it(self) -> bool:
        """Tell whether INT8 is the faster of the two on this machine."""
        return self.images_per_second > self.against_images_per_second


class Fp16Result(_Frozen):
    """What became FP16, and whether it would overflow where the CPU cannot show it."""

    conversion: Fp16Report
    ranges: RangeReport


class VariantResult(_Frozen):
    """One variant on one engine and provider."""

    variant: str
    verdict: EngineVerdict
    description: EngineDescription | None = None
    """None where the engine did not open."""
    links: tuple[Link, ...] = ()
    """The verdict's own comparison first, then other batch sizes and crop sizes."""
    invariance: Invariance | None = None
    speed: Speed | None = None
    """Of INT8 variants that passed, where a float variant passed too."""


class ParityChain(_Frozen):
    """`parity.json`: everything that was measured, from the adapter to the engine."""

    schema_version: int = 1
    machine: Machine
    cells: dict[str, int]
    """Number of cells by group."""
    links: tuple[Link, ...]
    """PyTorch: unmerged to merged, merged to folded."""
    variants: tuple[VariantResult, ...]
    fp16: Fp16Result | None = None
    """None where no FP16 file was made."""
    int8: Int8Report | None = None
    """None where no INT8 file was made."""

    @property
    def broken(self) -> Link | None:
        """The first link in PyTorch that failed: nothing below it can be used."""
        return next((link for link in self.links if link.report.verdict == "failed"), None)

    def usable(self, variant: str) -> bool:
        """Tell whether some engine passed with a variant and no link above it broke."""
        return self.broken is None and any(
            result.verdict.verdict == "passed"
            for result in self.variants
            if result.variant == variant
        )

    def strays(self, variant: str) -> bool:
        """Tell whether a variant, or a link above it, was seen beyond a limit on any engine."""
        return self.broken is not None or any(
            result.verdict.verdict == "failed"
            for result in self.variants
            if result.variant == variant
        )
