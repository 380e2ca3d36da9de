"""Tables of image names that a user gives: which group a cell is of, which part it belongs to."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from cytodino.cells import CellSource
from cytodino.errors import InputError, MissingPathError
from cytodino.parts import PARTS
from cytodino.training.observer import Observer

SplitTable = tuple[str | None, Path]
"""A part and the file of its images' names; None where the file's second column is the part."""


class Names:
    """Finds the cell that a name in somebody's table means.

    A name is a cell's id, or a path that ends with it, or ends with the same file name in a folder
    of the same class: tables are written elsewhere, and the published ones of DinoBloom hold the
    absolute paths of their authors' machine, ``/data/test/OTH/OTH_00167.jpg`` for
    ``OTH/0001-1000/OTH_00167.jpg``.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        self._exact = {name: row for row, name in enumerate(ids)}
        self._by_file: dict[str, list[int]] = {}
        for row, name in enumerate(ids):
            self._by_file.setdefault(name.rpartition("/")[2], []).append(row)

    def find(self, name: str) -> int | None:
        """Return the row of the one cell that a name means; None where it means none, or several.

        Parameters
        ----------
        name : with forward slashes or backslashes
        """
        path = PurePosixPath(name.strip().replace("\\", "/"))
        if str(path) in self._exact:
            return self._exact[str(path)]
        same_file = self._by_file.get(path.name, [])
        whole = [row for row in same_file if str(path).endswith(f"/{self._ids[row]}")]
        if len(whole) == 1:
            return whole[0]
        folders = set(path.parts[:-1])
        alike = [row for row in same_file if not folders or self._class_folder(row) in folders]
        return alike[0] if len(alike) == 1 else None

    def _class_folder(self, row: int) -> str:
        return self._ids[row].partition("/")[0]


def read_groups(path: Path, cells: CellSource, observer: Observer) -> np.ndarray:
    """Read which patient or slide each cell is of.

    Parameters
    ----------
    path : CSV, an image's name and its group on each line; a header is passed over
    cells : CellSource
    observer : is told of names that are none of these cells

    Returns
    -------
    str, (n,)

    Raises
    ------
    MissingPathError
        If the table is not there.
    InputError
        If it cannot be read, or a cell has no group, or two.
    """
    found = _read_column(path, cells, observer)
    absent = [name for row, name in enumerate(cells.ids) if not found.get(row)]
    if absent:
        raise InputError(
            f"names no group for {_count(len(absent), len(cells))}, first: {absent[0]}",
            where=path,
            mend="add a line for each, with its patient or slide",
        )
    return np.array([found[row] for row in range(len(cells))])


def read_split(
    tables: Sequence[SplitTable], cells: CellSource, observer: Observer
) -> Mapping[int, str]:
    """Read which part each cell belongs to.

    Parameters
    ----------
    tables : files of `id,part`, such as a run's `split.csv`, or of the names of one part's images,
        such as DinoBloom's `bm_train.csv`
    cells : CellSource
    observer : is told of names that are none of these cells

    Returns
    -------
    part by row, every cell in one

    Raises
    ------
    MissingPathError
        If a table is not there.
    InputError
        If one cannot be read, names no known part, or a cell is in no part, or in two.
    """
    parts: dict[int, str] = {}
    for part, path in tables:
        found = _read_column(path, cells, observer, constant=part)
        for row, named in found.items():
            if named not in PARTS:
                raise InputError(
                    f"puts {cells.ids[row]} into the part {named!r}",
                    where=path,
                    mend=f"name a part of {', '.join(PARTS)}, or give PART={path}",
                )
            if parts.setdefault(row, named) != named:
                raise _twice(path, cells.ids[row], parts[row], named)
    absent = [name for row, name in enumerate(cells.ids) if row not in parts]
    if absent:
        raise InputError(
            f"the split has no part for {_count(len(absent), len(cells))}, first: {absent[0]}",
            where=cells.path,
            mend="name them in one of the --split files, or take them out of the data",
        )
    return parts


def _read_column(
    path: Path, cells: CellSource, observer: Observer, *, constant: str | None = None
) -> dict[int, str]:
    """Read the second column, or a constant in its place, by row of the cells."""
    names = Names(cells.ids)
    found: dict[int, str] = {}
    strangers: list[str] = []
    for number, name, value in _lines(path, constant):
        row = names.find(name)
        if row is None:
            strangers += [name] if number > 1 else []  # the first line may be a header
        elif found.setdefault(row, value) != value:
            raise _twice(path, cells.ids[row], found[row], value)
    if not found:
        raise InputError(
            f"names none of the {len(cells)} cells of {cells.path}",
            where=path,
            mend=f"write names such as {cells.ids[0]} into its first column",
        )
    if strangers:
        observer.say(
            f"warning: {path} names {len(strangers)} images that are not, or not unmistakably, "
            f"among the cells, first: {strangers[0]}"
        )
    return found


def _lines(path: Path, constant: str | None) -> Iterator[tuple[int, str, str]]:
    """Yield number, name and value of each line that is not empty."""
    if not path.is_file():
        raise MissingPathError(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for fields in reader:
                if constant is not None and fields:
                    yield reader.line_num, fields[0], constant
                elif len(fields) > 1:
                    yield reader.line_num, fields[0], fields[1].strip()
                elif fields:
                    raise InputError(
                        f"line {reader.line_num} has no second column",
                        where=path,
                        mend="separate name and value by a comma",
                    )
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError("is no CSV file in UTF-8", where=path, mend="save it as one") from error


def _twice(path: Path, cell: str, first: str, second: str) -> InputError:
    return InputError(
        f"{cell} is in {first!r} and in {second!r}", where=path, mend="name each cell once"
    )


def _count(n: int, total: int) -> str:
    return f"{n} of {total} cells"
