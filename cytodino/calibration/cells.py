"""Which cells calibrate: the run's calibration part, or cells given that the run never learnt."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytodino.calibration.record import FEWEST_CELLS
from cytodino.cells import CellSource, open_cells
from cytodino.errors import MissingPathError
from cytodino.run_parts import STRANGER, parts_in

if TYPE_CHECKING:
    from cytodino.run import Run

__all__ = ["CalibrationCells", "choose_calibration_cells"]

PART = "calibration"


@dataclass(frozen=True)
class CalibrationCells:
    """Cells to calibrate confidence with; they are read as they are needed."""

    cells: CellSource
    rows: NDArray[np.int64]
    """(n,), which of them."""
    source: dict[str, Any]
    """Path, part, number, seed, digest and ids, for `confidence.json`."""
    grouped: bool = False
    """Whether they are known to be the whole of some patients or slides."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,), class indices."""
        assert self.cells.labels is not None  # or none would have been chosen
        return np.asarray(self.cells.labels[self.rows], dtype=np.int64)

    @property
    def ids(self) -> list[str]:
        """One a cell."""
        return [self.cells.ids[row] for row in self.rows.tolist()]


def choose_calibration_cells(
    run: "Run",
    source: CellSource,
    *,
    given: Path | None = None,
    most: int | None = None,
    seed: int = 0,
) -> CalibrationCells | str:
    """Choose the cells that calibrate a run's confidence.

    Cells are drawn at random and not by class: the promise is for their mix. Of cells that are
    given, those that the run trained, chose an epoch or will be scored on are left out.

    Parameters
    ----------
    run : Run
    source : CellSource
        The run's own cells, or what stands in their place.
    given : Path, optional
        Image folder or archive, labelled, in place of the calibration part.
    most : int, optional
        Cells at most.
    seed : int

    Returns
    -------
    CalibrationCells, or str
        Why there are too few, as a sentence.

    Raises
    ------
    MissingPathError, InputError
        If the cells given are not there, or cannot be read.
    """
    if given is not None:
        if not given.exists():
            raise MissingPathError(given, mend="give calibration cells, images or an archive")
        source = open_cells(given)
    labels = np.full(len(source), -1) if source.labels is None else source.labels
    parts = parts_in(run, source)
    wanted = (parts == PART) | ((given is not None) & (parts == STRANGER))
    rows = np.flatnonzero(wanted & (labels >= 0))
    if given is None and PART not in run.split:
        return "the run's split has no calibration part"
    if len(rows) < FEWEST_CELLS:
        return (
            f"{len(rows)} labelled calibration cells in {source.path}, at least {FEWEST_CELLS} "
            "are needed"
        )
    if most is not None and len(rows) > most:
        names = np.array([source.ids[row] for row in rows.tolist()], dtype=object)
        by_name = rows[np.argsort(names, kind="stable")]
        rows = np.sort(np.random.default_rng(seed).permutation(by_name)[:most])
    division = run.manifest.split
    return CalibrationCells(
        cells=source,
        rows=rows,
        grouped=given is None and division is not None and division.groups is not None,
        source={
            "path": str(source.path),
            "part": PART if given is None else "given",
            "n": len(rows),
            "seed": seed,
            "digest": _digest(source, rows),
            "ids": [source.ids[row] for row in rows.tolist()],
        },
    )


def _digest(source: CellSource, rows: NDArray[np.int64]) -> str:
    """SHA-256 over ids and checksums: says which cells calibrated."""
    digest = hashlib.sha256()
    for row in rows.tolist():
        digest.update(f"{source.ids[row]}\0{source.checksum(row):08x}\n".encode())
    return digest.hexdigest()
