"""Labelled cells and the parts they are divided into."""

from dataclasses import dataclass

import numpy as np

from cytodino.cells import CellSource, require_labels
from cytodino.errors import CropError, InputError, TrainingError
from cytodino.parts import PARTS
from cytodino.taxonomy import CODES
from cytodino.training.observer import Observer
from cytodino.training.split import count_by_class, split_cells


@dataclass(frozen=True)
class DividedCells:
    """Cells, what they are, and which part each belongs to."""

    cells: CellSource
    labels: np.ndarray
    """int64, (n,), class index."""
    parts: np.ndarray
    """str, (n,)."""

    def rows(self, part: str) -> np.ndarray:
        """Return the indices of one part's cells, int64 (m,)."""
        return np.flatnonzero(self.parts == part)

    def counts(self) -> dict[str, dict[str, int]]:
        """Count cells by part and class code."""
        return {part: count_by_class(self.labels[self.rows(part)]) for part in PARTS}


def divide(cells: CellSource, *, seed: int) -> DividedCells:
    """Divide cells into training, validation, calibration and test part.

    Raises
    ------
    InputError
        If a cell has no label.
    TrainingError
        If a part would stay empty.
    """
    labels = require_labels(cells)
    divided = DividedCells(cells, labels, split_cells(labels, cells.ids, seed=seed))
    empty = [part for part in PARTS if not len(divided.rows(part))]
    if empty:
        raise TrainingError(
            f"too few cells: the {' and the '.join(empty)} part would be empty",
            where=cells.path,
            mend=f"give at least {len(PARTS)} cells of some class",
        )
    return divided


def describe(divided: DividedCells, observer: Observer) -> None:
    """Say how the cells are divided, and which classes cannot be learnt or judged from them."""
    sizes = ", ".join(f"{part} {len(divided.rows(part))}" for part in PARTS)
    observer.say(f"{len(divided.cells)} cells: {sizes}")
    present = count_by_class(divided.labels)
    absent = [code for code in CODES if code not in present]
    if absent:
        observer.say(
            f"warning: no cells of {' '.join(absent)}; the model has outputs for all "
            f"{len(CODES)} classes, but cannot know these"
        )
    small = [code for code, n in present.items() if n < len(PARTS)]
    if small:
        observer.say(f"warning: {' '.join(small)} have too few cells to be in every part")


def read_all(cells: CellSource, observer: Observer) -> None:
    """Decode every cell once, so that a damaged one is found now and not after an hour.

    Raises
    ------
    CropError
        If one cannot be read.
    InputError
        If several cannot; the first is named.
    """
    observer.begin("checking images", len(cells))
    damaged: list[CropError] = []
    for index in range(len(cells)):
        try:
            cells.read(index)
        except CropError as error:
            damaged.append(error)
        observer.advance()
    if len(damaged) > 1:
        raise InputError(
            f"{len(damaged)} of {len(cells)} images cannot be used; first, {damaged[0]}",
            where=cells.path,
        ) from damaged[0]
    if damaged:
        raise damaged[0]
