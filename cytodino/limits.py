"""How far a variant may stray from the reference: the default limits, and their type."""

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["LIMITS", "Limits", "change_limits"]


class Limits(BaseModel):
    """What a candidate may differ by and still pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: float
    """No flip where the reference's margin, 0 to 1, is at least this."""
    probability: float
    """Largest change of any class's probability, 0 to 1."""
    agreement: float | None = None
    """Least share of cells with the same top-1 class, 0 to 1; judged on `min_cells` or more, for of
    fewer one cell is too large a share. None: not judged."""
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

FP16_LOGIT = 0.01
"""Largest change of a logit in FP16, as a share of the logits' spread. Measured with FP16 computed
as FP16 (256 cells): honest files reach 0.0016 to 0.0019 (six blocks, three trained runs) and 0.0034
to 0.0040 (two blocks of width 32, random weights); CPU engines, which compute in float32, stay at
half of that. A matrix or a gain off by 3 % reaches 0.012 or more in the random models, 0.0026 to
0.080 in a trained one: nothing that lets honest FP16 pass sees them all there, so that the export
also holds every constant of the FP16 file against the FP32 file's (`fp16_constants`)."""

LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(margin=0.001, probability=0.001, logit_absolute=1e-3, logit_relative=1e-4),
    "fp16": Limits(
        margin=0.02,
        probability=0.005,
        agreement=0.99,
        logit_relative=FP16_LOGIT,
        judge_macro_f1=True,
    ),
    "bf16": Limits(margin=0.05, probability=0.02, agreement=0.98, judge_macro_f1=True),
    "int8": _INT8,
    "int8-bf16": _INT8,
}
"""The default limits of each variant."""


def change_limits(changes: Sequence[str]) -> dict[str, Limits]:
    """Return the default limits with some changed.

    Parameters
    ----------
    changes : sequence of str
        Such as ``int8.margin=0.15``: a variant, a field of `Limits`, and its value; ``none`` where
        a limit that may be absent is not to be judged.

    Raises
    ------
    ValueError
        If there is no such variant or field, or the value is none of its kind.
    """
    limits = dict(LIMITS)
    for change in changes:
        name, _, text = change.partition("=")
        variant, _, field = name.strip().partition(".")
        if variant not in limits:
            raise ValueError(f"{change!r} names none of the variants {', '.join(limits)}")
        if field not in Limits.model_fields:
            fields = ", ".join(Limits.model_fields)
            raise ValueError(f"{change!r} names none of the limits {fields}")
        limits[variant] = _change(limits[variant], field, text.strip(), change)
    return limits


def _change(limits: Limits, field: str, text: str, change: str) -> Limits:
    value = None if text.lower() == "none" else text
    try:
        changed = Limits.model_validate(limits.model_dump() | {field: value})
    except ValidationError as error:
        raise ValueError(f"{change!r}: {error.errors()[0]['msg'].lower()}") from error
    number = getattr(changed, field)
    # Nothing is ever greater than a NaN: it would switch the limit off without a word.
    if number is not None and not 0 <= number < math.inf:
        raise ValueError(f"{change!r}: a limit is a number from 0 up")
    return changed
