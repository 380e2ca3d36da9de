"""Confidence of each variant that passes, re-fitted on the engine that it passed on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cytodino.calibration import Targets
from cytodino.calibration.cells import CalibrationCells, choose_calibration_cells
from cytodino.calibration.file import Confidence, ModelCalibration, read_confidence
from cytodino.calibration.fitting import calibrate_engine, compose_confidence
from cytodino.engines.base import Engine
from cytodino.run import Run
from cytodino_export.gate import BATCH_SIZE, Candidate
from cytodino_export.gate_cells import GateCells
from cytodino_export.options import ExportOptions

__all__ = ["Calibrator", "choose_calibrator"]


@dataclass(frozen=True)
class Calibrator:
    """Cells that calibrate, and what is to be promised."""

    cells: CalibrationCells
    targets: Targets

    def __call__(self, engine: Engine) -> ModelCalibration:
        """Fit an open engine's temperature and threshold."""
        return calibrate_engine(engine, self.cells, self.targets, batch_size=BATCH_SIZE)

    def compose(self, run: Run, candidates: Sequence[Candidate]) -> Confidence | None:
        """Put together what was found; None where no variant passed.

        PyTorch's own stands in the run, and comes along for whoever classifies with it.
        """
        found = [one.calibration for one in candidates if one.calibration is not None]
        own = read_confidence(run.path)
        if not found:
            return None
        if own is not None and own.targets == self.targets:
            found += own.models
        return compose_confidence(found, self.cells, self.targets)


def choose_calibrator(
    run: Run,
    cells: GateCells,
    options: ExportOptions,
    *,
    seed: int,
    say: Callable[[str], None],
) -> Calibrator | None:
    """Choose calibration cells; None, and the reason said, where there are too few.

    What is to be promised is what `cytodino calibrate` was asked for in the run, else the default.

    Raises
    ------
    MissingPathError, InputError
        If cells that were named cannot be used, or the run's `confidence.json` is damaged.
    """
    own = read_confidence(run.path)
    chosen = choose_calibration_cells(
        run,
        cells.source,
        given=options.confidence,
        most=options.confidence_cells,
        seed=seed,
    )
    if isinstance(chosen, str):
        say(
            f"confidence is not calibrated: {chosen}; --confidence names cells (labelled, never "
            "trained on)"
        )
        return None
    return Calibrator(chosen, own.targets if own is not None else Targets())
