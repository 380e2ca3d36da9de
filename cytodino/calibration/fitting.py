"""Calibrate an engine on calibration cells, and a run on its own."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import cytodino
from cytodino.calibration.cells import CalibrationCells, choose_calibration_cells
from cytodino.calibration.file import Confidence, ModelCalibration, write_confidence
from cytodino.calibration.record import calibrate
from cytodino.calibration.threshold import Targets
from cytodino.errors import InputError
from cytodino.inference import predict_cells
from cytodino.machine import describe_machine

if TYPE_CHECKING:
    from cytodino.engines.base import Engine
    from cytodino.run import Run

__all__ = ["calibrate_engine", "calibrate_run", "compose_confidence"]


def calibrate_engine(
    engine: "Engine",
    chosen: CalibrationCells,
    targets: Targets,
    *,
    batch_size: int = 8,
    progress: Callable[[int], None] | None = None,
) -> ModelCalibration:
    """Fit an open engine's temperature and threshold on calibration cells.

    Parameters
    ----------
    engine : Engine
    chosen : CalibrationCells
    targets : Targets
    batch_size : int
        Crops in one call, at most.
    progress : callable, optional
        Called with the number of cells just done.

    Raises
    ------
    CropError
        If a cell cannot be read.
    EngineError
        If the engine fails, or a logit is not finite.
    """
    logits = predict_cells(
        engine, chosen.cells, chosen.rows, batch_size=batch_size, progress=progress
    )
    found = engine.describe()
    return ModelCalibration(
        variant=found.variant,
        engine=found.engine,
        provider=found.provider,
        machine=describe_machine().computing_on(found.device),
        calibration=calibrate(
            logits,
            chosen.labels,
            chosen.ids,
            targets,
            seed=chosen.source["seed"],
            grouped=chosen.grouped,
        ),
    )


def compose_confidence(
    models: Sequence[ModelCalibration], chosen: CalibrationCells, targets: Targets
) -> Confidence:
    """Put calibrations on the same cells together to the content of `confidence.json`."""
    return Confidence(
        created=datetime.now(UTC).replace(microsecond=0),
        cytodino_version=cytodino.__version__,
        targets=targets,
        source=chosen.source,
        models=tuple(models),
    )


def calibrate_run(
    run: "Run",
    engine: "Engine",
    targets: Targets | None = None,
    *,
    data: Path | None = None,
    most: int | None = None,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Confidence:
    """Calibrate a run in PyTorch and write `confidence.json` into its folder.

    Parameters
    ----------
    run : Run
    engine : Engine
        The run's own model, open.
    targets : Targets, optional
        What is to be promised.
    data : Path, optional
        Cells in place of the run's calibration part.
    most : int, optional
        Cells at most; all by default.
    batch_size : int
    progress : callable, optional
        Takes the number of cells just done and the number of all.

    Raises
    ------
    InputError
        If the run has no calibration part or too few cells in it, or they have changed.
    MissingPathError
        If the cells are gone.
    CropError, EngineError
        As for `calibrate_engine`.
    """
    from cytodino.cells import open_cells

    own = run.open_cells() if data is None else open_cells(data)
    chosen = choose_calibration_cells(run, own, given=data, most=most)
    if isinstance(chosen, str):
        raise InputError(
            f"cannot be calibrated: {chosen}",
            where=run.path,
            mend="train it again, or give labelled cells that it never learnt with --data",
        )
    targets = targets or Targets()
    total = len(chosen.rows)
    found = calibrate_engine(
        engine,
        chosen,
        targets,
        batch_size=batch_size,
        progress=None if progress is None else lambda done: progress(done, total),
    )
    confidence = compose_confidence([found], chosen, targets)
    write_confidence(run.path, confidence)
    return confidence
