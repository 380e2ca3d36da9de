"""Which cells the gate looks at: acceptance cells never trained on, and the golden ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytodino.bundle.golden import GOLDEN_CELLS, choose_golden
from cytodino.bundle.manifest import GoldenSource
from cytodino.cells import CellSource, MemoryCells, open_cells
from cytodino.errors import InputError, MissingPathError
from cytodino.run import Run
from cytodino.run_parts import STRANGER, parts_in

__all__ = ["GateCells", "Group", "choose_cells"]

ODD_CELLS = 8
"""Cells that are also tried at a size that no model was trained on."""

MEND_DATA = "give the cells with --data IMAGES or ARCHIVE"


@dataclass(frozen=True)
class Group:
    """Some of the gate's crops, by row."""

    name: str
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class GateCells:
    """Every crop that the gate uses, each once, and who uses which."""

    crops: list[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    """int64 (n,), -1 where a crop has none."""
    ids: list[str]
    acceptance: Group
    """What the verdicts rest on."""
    golden: Group
    """What travels with the bundle; the links of the chain are measured on it."""
    odd: Group
    """Golden cells cut to another height and width."""
    golden_source: GoldenSource
    acceptance_source: dict[str, object]
    source: CellSource
    """Where the acceptance cells were drawn from; it may hold others."""

    def pick(self, group: Group) -> list[NDArray[np.uint8]]:
        """Crops of a group, in its order."""
        return [self.crops[row] for row in group.rows]

    def golden_cells(self) -> MemoryCells:
        """Golden cells as a source that can be written to an archive."""
        rows = self.golden.rows
        return MemoryCells(
            self.pick(self.golden),
            ids=[self.ids[row] for row in rows],
            labels=self.labels[rows],
            slide="golden",
        )


@dataclass(frozen=True)
class _Drawn:
    """Rows of a source, and the parts of the run's split that they belong to."""

    source: CellSource
    rows: NDArray[np.int64]
    parts: tuple[str, ...]


def choose_cells(
    run: Run,
    *,
    data: Path | None = None,
    golden: Path | None = None,
    max_cells: int,
    seed: int = 0,
) -> GateCells:
    """Choose and read the gate's cells.

    Acceptance cells are the run's test part, the golden ones come from its validation and test
    parts; of cells given by `data`, those that were trained on are left out and strangers count
    as test cells.

    Parameters
    ----------
    run : Run
    data : Path, optional
        Cells in place of those that the run was trained on.
    golden : Path, optional
        Cells in place of the run's for the golden ones.
    max_cells : int
        Most acceptance cells; if there are more they are drawn by class and seed.
    seed : int

    Raises
    ------
    MissingPathError
        If the cells are gone.
    InputError
        If the run's own cells have changed, or no cell is left that was not trained on.
    CropError
        If a cell cannot be read.
    """
    source = _open_data(run, data)
    held_out = _held_out(run, source)
    test = _Drawn(source, _draw(source, held_out["test"], max_cells, seed), ("test",))
    chosen = _choose_golden(run, source, held_out, golden, seed)
    return _read(test, chosen, seed)


def _open_data(run: Run, data: Path | None) -> CellSource:
    recorded = run.manifest.data
    path = Path(recorded.path) if data is None and recorded else data
    if path is not None and not path.exists():
        raise MissingPathError(path, mend=MEND_DATA)
    return run.open_cells() if data is None else open_cells(data)


def _held_out(run: Run, source: CellSource) -> dict[str, NDArray[np.int64]]:
    """Rows of the source by part; what the run never saw counts as test."""
    parts = parts_in(run, source)
    found = {
        "validation": np.flatnonzero(parts == "validation"),
        "test": np.flatnonzero((parts == "test") | (parts == STRANGER)),
    }
    if len(found["test"]) == 0:
        raise InputError(
            "no cell is left that was not trained on",
            where=source.path,
            mend=MEND_DATA + " that hold the run's test part, or others",
        )
    return found


def _choose_golden(
    run: Run,
    source: CellSource,
    held_out: dict[str, NDArray[np.int64]],
    golden: Path | None,
    seed: int,
) -> _Drawn:
    if golden is None:
        rows = np.concatenate([held_out["validation"], held_out["test"]])
        parts: tuple[str, ...] = ("validation", "test")
    else:
        source = open_cells(golden)
        held_out = _held_out(run, source)
        rows = np.concatenate([held_out["validation"], held_out["test"]])
        parts = ("given",)
    return _Drawn(source, _draw(source, rows, GOLDEN_CELLS, seed), parts)


def _draw(source: CellSource, rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    return np.asarray(rows[choose_golden(_labels(source)[rows], seed=seed, count=count)])


def _labels(source: CellSource) -> NDArray[np.int64]:
    if source.labels is None:
        return np.full(len(source), -1, dtype=np.int64)
    return np.asarray(source.labels, dtype=np.int64)


def _read(test: _Drawn, golden: _Drawn, seed: int) -> GateCells:
    same = test.source is golden.source
    places = {int(row): place for place, row in enumerate(test.rows)} if same else {}
    extra = [int(row) for row in golden.rows if int(row) not in places]
    places |= {row: len(test.rows) + n for n, row in enumerate(extra)}
    golden_places = np.array([places[int(row)] for row in golden.rows], dtype=np.int64)

    crops = [test.source.read(int(row)) for row in test.rows]
    crops += [golden.source.read(row) for row in extra]
    labels = np.concatenate([_labels(test.source)[test.rows], _labels(golden.source)[extra]])
    ids = [test.source.ids[row] for row in test.rows] + [golden.source.ids[r] for r in extra]
    odd = [_cut(crops[place]) for place in golden_places[:ODD_CELLS]]
    return GateCells(
        crops=crops + odd,
        labels=np.concatenate([labels, labels[golden_places[:ODD_CELLS]]]),
        ids=ids + [ids[place] for place in golden_places[:ODD_CELLS]],
        acceptance=Group("acceptance", np.arange(len(test.rows))),
        golden=Group("golden", golden_places),
        odd=Group("other sizes", np.arange(len(crops), len(crops) + len(odd))),
        golden_source=GoldenSource(
            path=str(golden.source.path),
            parts=golden.parts,
            seed=seed,
            ids=tuple(ids[place] for place in golden_places),
        ),
        acceptance_source={
            "path": str(test.source.path),
            "parts": list(test.parts),
            "n": len(test.rows),
            "digest": _digest(test.source, test.rows),
            "ids": [test.source.ids[row] for row in test.rows],
        },
        source=test.source,
    )


def _cut(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give a crop another height and width: mirrored rows below, columns cut off."""
    taller = np.pad(crop, ((0, min(13, len(crop) - 1)), (0, 0), (0, 0)), mode="reflect")
    return np.ascontiguousarray(taller[:, : max(1, crop.shape[1] - 7)])


def _digest(source: CellSource, rows: Sequence[int] | NDArray[np.int64]) -> str:
    """SHA-256 over ids and checksums: says which cells were accepted on."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{source.ids[row]}\0{source.checksum(int(row)):08x}\n".encode())
    return digest.hexdigest()
