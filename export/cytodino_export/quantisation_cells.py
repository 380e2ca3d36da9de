"""Cells that calibrate and tune: from the training part, and never one of those that judge."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytodino.cells import CellSource, open_cells
from cytodino.errors import InputError, MissingCellsError, MissingPathError
from cytodino.run import Run
from cytodino.run_parts import STRANGER, parts_in
from cytodino_export.calibration_cells import draw_cell_sets
from cytodino_export.gate_cells import GateCells

__all__ = ["CellSet", "choose_quantisation_cells"]

MEND = "give training cells with --calibration IMAGES or ARCHIVE"


@dataclass(frozen=True)
class CellSet:
    """Some cells, read, and where they came from."""

    crops: list[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    """int64 (n,), -1 where a crop has none."""
    source: dict[str, object]
    """Path, part, seed and ids, for the manifest."""


def choose_quantisation_cells(
    run: Run,
    gate: GateCells,
    *,
    calibration: Path | None = None,
    sizes: tuple[int, int],
    seed: int = 0,
) -> tuple[CellSet, CellSet]:
    """Choose and read the cells that calibrate and those that tune, by class and seed.

    They come from the run's training part, or from cells given, of which those of the run's
    other parts are left out. The run's calibration part has no say here: it is for confidences.
    A cell with the same pixels as one of the gate's, or as one that calibrates, is left out too.

    Parameters
    ----------
    run : Run
    gate : GateCells
        Acceptance and golden cells, already chosen.
    calibration : Path, optional
        Cells in place of the run's training part.
    sizes : number of cells to calibrate with, and to tune with
        Both shrink where there are fewer.
    seed : int

    Raises
    ------
    MissingPathError
        If the cells are gone.
    InputError
        If the run was imported and names none, its cells have changed, or too few are left.
    CropError
        If a cell cannot be read.
    """
    source = _open_source(run, gate, calibration)
    rows = _training_rows(run, source, given=calibration is not None)
    if len(rows) < len(sizes):
        raise InputError(
            f"{len(rows)} cells are left to calibrate and tune INT8", where=source.path, mend=MEND
        )
    ids = [source.ids[row] for row in rows]
    labels = np.full(len(source), -1) if source.labels is None else np.asarray(source.labels)
    drawn = draw_cell_sets(labels[rows].astype(np.int64), ids, sizes, seed)
    part = "given" if calibration is not None else "train"
    seen = {_digest(crop) for crop in gate.crops}
    first, second = (_read(source, rows[places], labels, part, seed, seen) for places in drawn)
    return first, second


def _open_source(run: Run, gate: GateCells, calibration: Path | None) -> CellSource:
    if calibration is not None:
        if not calibration.exists():
            raise MissingPathError(calibration, mend=MEND)
        return open_cells(calibration)
    if "train" in parts_in(run, gate.source):
        return gate.source
    if run.manifest.data is None:
        raise MissingCellsError(
            "was imported, and names no training cells", where=run.path, mend=MEND
        )
    if not Path(run.manifest.data.path).exists():
        raise MissingPathError(Path(run.manifest.data.path), mend=MEND)
    return run.open_cells()


def _training_rows(run: Run, source: CellSource, *, given: bool) -> NDArray[np.int64]:
    """Rows of the training part; of cells that were given, all but the parts held out."""
    parts = parts_in(run, source)
    return np.flatnonzero((parts == "train") | (given & (parts == STRANGER)))


def _read(
    source: CellSource,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    part: str,
    seed: int,
    seen: set[str],
) -> CellSet:
    """Read the rows whose pixels were not seen before, and count them as seen."""
    kept: list[int] = []
    crops: list[NDArray[np.uint8]] = []
    for row in rows:
        crop = source.read(int(row))
        digest = _digest(crop)
        if digest not in seen:
            seen.add(digest)
            kept.append(int(row))
            crops.append(crop)
    if not crops:
        raise InputError(
            "the cells to calibrate with are those that judge", where=source.path, mend=MEND
        )
    return CellSet(
        crops=crops,
        labels=labels[kept].astype(np.int64),
        source={
            "path": str(source.path),
            "part": part,
            "seed": seed,
            "n": len(kept),
            "ids": [source.ids[row] for row in kept],
        },
    )


def _digest(crop: NDArray[np.uint8]) -> str:
    return hashlib.sha256(repr(crop.shape).encode() + crop.tobytes()).hexdigest()
