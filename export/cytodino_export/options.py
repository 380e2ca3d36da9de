"""What an export is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytodino.limits import LIMITS, Limits

__all__ = ["SEED", "ExportOptions"]

SEED = 0
"""Draws golden, acceptance, calibration and tuning cells; recorded in the manifest."""

PRECISIONS = ("fp32", "fp16", "int8")
"""Files that are made unless some are named."""

REQUIRED = ("fp32",)
"""Of these, what has to pass unless some are named. The others were not asked for: what they came
to is recorded, and one that failed is in no bundle as usable."""


@dataclass(frozen=True)
class ExportOptions:
    """What an export is asked for."""

    precisions: tuple[str, ...] = ()
    """Precisions that are made and have to pass; none named: `PRECISIONS`, of which `REQUIRED`.
    FP32 always belongs to them: the others are made from it."""
    data: Path | None = None
    """Cells in place of those that the run was trained on."""
    golden: Path | None = None
    """Cells in place of the run's for the golden ones."""
    calibration: Path | None = None
    """Cells in place of the run's training part, for INT8 and for FP16's ranges."""
    confidence: Path | None = None
    """Cells in place of the run's calibration part, for confidence and the review threshold."""
    confidence_cells: int = 2_000
    """Most cells for that; each variant that passes on an engine classifies all of them."""
    allow_failing: bool = False
    """Keep a refused bundle for study, marked unusable."""
    max_cells: int = 2_000
    """Most acceptance cells."""
    calibration_cells: int = 64
    """Cells to calibrate INT8 with."""
    tuning_cells: int = 128
    """Cells that decide which nodes return to float."""
    limits: Mapping[str, Limits] = field(default_factory=lambda: LIMITS)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Precisions to make."""
        asked = self.precisions or PRECISIONS
        return tuple(name for name in PRECISIONS if name in (*asked, "fp32"))

    @property
    def required(self) -> tuple[str, ...]:
        """Precisions without which the export is refused."""
        return self.wanted if self.precisions else REQUIRED

    def record(self) -> dict[str, Any]:
        """Say what was asked for, for the manifest."""
        return {
            "precisions": list(self.wanted),
            "required": list(self.required),
            "data": None if self.data is None else str(self.data),
            "golden": None if self.golden is None else str(self.golden),
            "calibration": None if self.calibration is None else str(self.calibration),
            "confidence": None if self.confidence is None else str(self.confidence),
            "confidence_cells": self.confidence_cells,
            "allow_failing": self.allow_failing,
            "max_cells": self.max_cells,
            "calibration_cells": self.calibration_cells,
            "tuning_cells": self.tuning_cells,
            "changed_limits": {
                f"{variant}.{name}": value
                for variant, limits in self.limits.items()
                for name, value in limits.model_dump().items()
                if value != getattr(LIMITS[variant], name)
            },
            "seed": SEED,
        }
