"""Labelled cells and the parts they are divided into."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytodino.cells import CellSource, require_labels
from cytodino.errors import TrainingError
from cytodino.parts import PARTS
from cytodino.run import Run
from cytodino.run_files import SPLIT
from cytodino.run_parts import parts_in
from cytodino.taxonomy import CODES
from cytodino.training.observer import Observer
from cytodino.training.split import (
    FILE_RULE,
    FRACTIONS,
    GROUP_RULE,
    PRIORITY,
    RULE,
    count_by_class,
    split_cells,
    split_groups,
)
from cytodino.training.tables import SplitTable, read_groups, read_split


@dataclass(frozen=True)
class DividedCells:
    """Cells, what they are, and which part each belongs to."""

    cells: CellSource
    labels: np.ndarray
    """int64, (n,), class index."""
    parts: np.ndarray
    """str, (n,)."""
    rule: str = RULE
    """How it was decided."""

    def rows(self, part: str) -> np.ndarray:
        """Return the indices of one part's cells, int64 (m,)."""
        return np.flatnonzero(self.parts == part)

    def placed(self) -> list[tuple[str, str]]:
        """Return each cell's id and part, in the order of the ids."""
        return sorted(zip(self.cells.ids, self.parts.tolist(), strict=True))

    def counts(self) -> dict[str, dict[str, int]]:
        """Count cells by part and class code."""
        return {part: count_by_class(self.labels[self.rows(part)]) for part in PARTS}


def divide(
    cells: CellSource,
    *,
    seed: int,
    groups: Path | None = None,
    split: Sequence[SplitTable] = (),
    observer: Observer | None = None,
) -> DividedCells:
    """Divide cells into training, validation, calibration and test part.

    Parameters
    ----------
    cells : CellSource
    seed : int
    groups : table of each image's patient or slide, which are kept whole; see `read_groups`
    split : tables of images and parts; what they leave open is divided by the seed
    observer : is told of names in a table that are none of these cells

    Raises
    ------
    InputError
        If a cell has no label, or a table cannot be used.
    TrainingError
        If a part would stay empty, or the split tears a group apart.
    """
    observer = observer or Observer()
    labels = require_labels(cells)
    group = None if groups is None else read_groups(groups, cells, observer)
    if split:
        divided = _divide_by_files(cells, labels, split, group, seed, observer)
    else:
        everything = np.arange(len(cells))
        parts, rule = _divide_by_chance(cells, labels, everything, group, FRACTIONS, seed)
        divided = DividedCells(cells, labels, parts, rule)
    empty = [part for part in PARTS if not len(divided.rows(part))]
    if empty:
        raise TrainingError(
            f"too few cells: the {' and the '.join(empty)} part would be empty",
            where=cells.path,
            mend=f"give at least {len(PARTS)} cells of some class",
        )
    return divided


def _divide_by_files(
    cells: CellSource,
    labels: np.ndarray,
    split: Sequence[SplitTable],
    group: np.ndarray | None,
    seed: int,
    observer: Observer,
) -> DividedCells:
    named = read_split(split, cells, observer)
    parts = np.array([named[row] for row in range(len(cells))], dtype="<U11")
    if group is not None:
        _require_whole(group, parts, cells)
    first = next(iter(FRACTIONS))
    open_parts = [part for part in FRACTIONS if part == first or part not in parts]
    if first not in parts:
        raise TrainingError(
            f"the split names no cells for the {first} part",
            where=cells.path,
            mend=f"give --split {first}=FILE",
        )
    total = sum(FRACTIONS[part] for part in open_parts)
    fractions = {part: FRACTIONS[part] / total for part in open_parts}
    rows = np.flatnonzero(parts == first)
    parts[rows], rule = _divide_by_chance(cells, labels, rows, group, fractions, seed)
    return DividedCells(cells, labels, parts, FILE_RULE + rule)


def _divide_by_chance(
    cells: CellSource,
    labels: np.ndarray,
    rows: np.ndarray,
    group: np.ndarray | None,
    fractions: dict[str, float],
    seed: int,
) -> tuple[np.ndarray, str]:
    if group is None:
        ids = [cells.ids[row] for row in rows]
        priority = [part for part in PRIORITY if part in fractions]
        return split_cells(
            labels[rows], ids, seed=seed, fractions=fractions, priority=priority
        ), RULE
    found = len(np.unique(group[rows]))
    if found < len(fractions):
        raise TrainingError(
            f"{found} groups cannot fill {len(fractions)} parts and stay whole",
            where=cells.path,
            mend="give cells of more patients or slides, or divide without --groups",
        )
    return split_groups(labels[rows], group[rows], seed=seed, fractions=fractions), GROUP_RULE


def _require_whole(group: np.ndarray, parts: np.ndarray, cells: CellSource) -> None:
    found: dict[str, set[str]] = {}
    for name, part in zip(group.tolist(), parts.tolist(), strict=True):
        found.setdefault(name, set()).add(part)
    torn = [name for name, where in found.items() if len(where) > 1]
    if torn:
        name, where = torn[0], sorted(found[torn[0]])
        raise TrainingError(
            f"the split tears {len(torn)} groups apart, first: {name} is in {' and '.join(where)}",
            where=cells.path,
            mend="give a split that keeps them whole, or divide without --groups",
        )


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
    counts = divided.counts()
    small = [code for code in present if any(code not in counts[part] for part in PARTS)]
    if small:
        observer.say(f"warning: {' '.join(small)} have too few cells or groups to be in every part")


def warn_of_seen_cells(divided: DividedCells, earlier: Run, observer: Observer) -> None:
    """Say where an earlier run, now the backbone, learnt cells that shall judge now.

    Cell by cell: one image more or less, or the same cells in an archive, makes another set.
    """
    judging = np.isin(divided.parts, ("calibration", "test"))
    before = parts_in(earlier, divided.cells)[judging]
    seen = np.isin(before, ("train", "validation")).sum()
    if seen:
        observer.say(
            f"warning: the backbone {earlier.path} was trained on {seen} of the {len(before)} "
            "cells of the calibration and the test part, so that scores and promises flatter; "
            f"--split {earlier.path / SPLIT} divides the cells as it did"
        )
