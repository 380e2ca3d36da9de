"""`confidence.json`: the calibrations that travel in a run and in a bundle."""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cytodino.calibration.record import Calibration
from cytodino.calibration.threshold import Targets
from cytodino.errors import InputError

__all__ = ["CONFIDENCE_NAME", "SCHEMA_VERSION", "Confidence", "ModelCalibration",
           "read_confidence", "write_confidence"]  # fmt: skip

CONFIDENCE_NAME = "confidence.json"
SCHEMA_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelCalibration(_Record):
    """What was found for one variant on one engine: INT8 shifts confidence, and bf16 a little."""

    variant: str
    engine: str
    provider: str
    """The engine's own name for what computed."""
    machine: str
    """Model name of the CPU, and of the GPU where one computed."""
    calibration: Calibration


class Confidence(_Record):
    """The whole of `confidence.json`."""

    schema_version: int = Field(SCHEMA_VERSION, ge=1)
    created: datetime
    """UTC."""
    cytodino_version: str
    targets: Targets
    """What was to be promised."""
    source: Mapping[str, Any]
    """Which cells: path, part, number, digest and ids."""
    models: tuple[ModelCalibration, ...]

    def find(self, *, variant: str, engine: str, provider: str) -> ModelCalibration | None:
        """Return what was found for a variant on an engine, on its own provider if it is there.

        Another provider of the same engine computes the same graph in the same precision; another
        engine or variant rounds otherwise, and was calibrated by itself or not at all.
        """
        alike = [one for one in self.models if (one.variant, one.engine) == (variant, engine)]
        own = [one for one in alike if one.provider == provider]
        return next(iter([*own, *alike]), None)


def write_confidence(folder: Path, confidence: Confidence) -> Path:
    """Write `confidence.json` into a run's or bundle's folder, whole or not; return its path.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    path = folder / CONFIDENCE_NAME
    beside = folder / f".{CONFIDENCE_NAME}.{os.getpid()}.partial"
    beside.write_text(confidence.model_dump_json(indent=1) + "\n", encoding="utf-8")
    beside.replace(path)
    return path


def read_confidence(folder: Path) -> Confidence | None:
    """Read a folder's `confidence.json`; None where there is none: it is not calibrated.

    Raises
    ------
    InputError
        If it is damaged, or of a newer schema.
    """
    path = folder / CONFIDENCE_NAME
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = int(document["schema_version"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("is damaged", where=path, mend="copy the folder again, whole") from error
    if schema > SCHEMA_VERSION:
        raise InputError(
            f"has schema {schema}, newer than {SCHEMA_VERSION}", where=path, mend="upgrade cytodino"
        )
    try:
        return Confidence.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        raise InputError(
            f"{field}: {first['msg']}", where=path, mend="copy the folder again, whole"
        ) from error
