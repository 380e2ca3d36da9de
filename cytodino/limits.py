"""How far a variant may stray from the reference: the default limits, and their type."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class Limits(BaseModel):
    """What a candidate may differ by and still pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: float
    """No flip where the reference's margin, 0 to 1, is at least this."""
    probability: float
    """Largest change of any class's probability, 0 to 1."""
    agreement: float | None = None
    """Least share of cells with the same top-1 class, 0 to 1; None: not judged."""
    logit_absolute: float | None = None
    """Largest change of any logit; None: not judged."""
    logit_relative: float | None = None
    """Largest change of any logit, as a share of the reference logits' standard deviation."""
    critical_flips: int = 0
    """Most cells of a clear margin that the reference calls critical and the candidate safe."""
    judge_macro_f1: bool = False
    """Fail where the 95 % interval of the change of macro F1 lies wholly below 0."""
    min_cells: int = 200
    """With fewer cells nothing is proven, though it can still fail."""


_INT8 = Limits(margin=0.10, probability=0.05, agreement=0.97, judge_macro_f1=True)

LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(margin=0.001, probability=0.001, logit_absolute=1e-3, logit_relative=1e-4),
    "fp16": Limits(margin=0.02, probability=0.005, agreement=0.99, judge_macro_f1=True),
    "bf16": Limits(margin=0.05, probability=0.02, agreement=0.98, judge_macro_f1=True),
    "int8": _INT8,
    "int8-bf16": _INT8,
}
"""The default limits of each variant."""
