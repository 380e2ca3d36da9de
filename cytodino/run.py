"""The run folder: what `cytodino train` writes and export, evaluation and parity read; no torch.

A folder without `run.json` is no run: that file is written last, and whole.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from cytodino.errors import InputError, MissingCellsError, MissingPathError
from cytodino.run_files import (
    ADAPTER,
    ADAPTER_FILES,
    BACKBONE,
    HEAD,
    SPLIT,
    require_files,
)
from cytodino.run_manifest import MANIFEST, SCHEMA, SCHEMA_OF_FILES, RunManifest

if TYPE_CHECKING:
    from cytodino.cells import CellSource

_NO_RUN = "give the folder that `cytodino train --out` wrote"


@dataclass(frozen=True)
class Run:
    """A finished run on disk."""

    path: Path
    """The folder."""
    manifest: RunManifest
    split: Mapping[str, Sequence[str]]
    """Cell ids by part, see `cytodino.parts`."""

    @property
    def adapter_path(self) -> Path:
        """Where the LoRA adapter lies, if the run has one."""
        return self.path / ADAPTER

    @property
    def head_path(self) -> Path:
        """Where the head's weights lie."""
        return self.path / HEAD

    @property
    def backbone_path(self) -> Path:
        """Where the backbone lies, if it is stored in the run."""
        return self.path / BACKBONE

    def open_cells(self) -> "CellSource":
        """Open the cells that the run was trained on, from where they were.

        Raises
        ------
        MissingPathError
            If they are gone.
        MissingCellsError
            If the run was imported and has none.
        InputError
            If they are not the same cells any more.
        """
        from cytodino.cells import open_cells

        if self.manifest.data is None:
            raise MissingCellsError(
                "was imported, and names no cells of its own",
                where=self.path,
                mend="name cells by option (--data, --golden)",
            )
        path = Path(self.manifest.data.path)
        if not path.exists():
            raise MissingPathError(
                path, mend="put the cells of this run back, or name others by option"
            )
        cells = open_cells(path)
        if cells.fingerprint() != self.manifest.data.fingerprint:
            raise InputError(
                "the cells have changed since the run was trained",
                where=path,
                mend="put the cells of this run back, or name others by option",
            )
        return cells

    def rows(self, cells: "CellSource", part: str) -> np.ndarray:
        """Return where the cells of one part lie in a source: int64, (n,), in the split's order.

        Raises
        ------
        InputError
            If the run has no such part, or the source lacks some of its cells, or holds others
            of their names.
        """
        from cytodino.run_parts import parts_in

        if part not in self.split:
            raise InputError(
                f"the run has no part {part!r}",
                where=self.path,
                mend=f"choose from {', '.join(self.split)}",
            )
        where = {name: row for row, name in enumerate(cells.ids)}
        absent = [name for name in self.split[part] if name not in where]
        if absent:
            raise InputError(
                f"{len(absent)} cells of the run's {part} part are not there, first: {absent[0]}",
                where=cells.path,
                mend="give the cells that the run was trained on",
            )
        rows = np.array([where[name] for name in self.split[part]], dtype=np.int64)
        others = np.flatnonzero(parts_in(self, cells)[rows] != part)
        if len(others):
            raise InputError(
                f"{len(others)} cells bear the names of the run's {part} part and are others, "
                f"first: {self.split[part][others[0]]}",
                where=cells.path,
                mend="give the cells that the run was trained on",
            )
        return rows


def open_run(path: Path) -> Run:
    """Open a run folder and check that it is whole and of a schema known here.

    Raises
    ------
    MissingPathError
        If there is nothing at the path.
    InputError
        If it is no run, is damaged or not whole, or was written by a newer version.
    """
    if not path.exists():
        raise MissingPathError(path, mend=_NO_RUN)
    if not (path / MANIFEST).is_file():
        raise InputError(f"is no run: it has no {MANIFEST}", where=path, mend=_NO_RUN)
    manifest = _read_manifest(path / MANIFEST)
    needed = [HEAD, *([ADAPTER] if manifest.lora else [])]
    needed += [BACKBONE] if manifest.backbone.stored else []
    for name in needed:
        if not (path / name).exists():
            raise InputError(f"{name} is missing", where=path, mend="copy the run again, whole")
    if manifest.schema_version >= SCHEMA_OF_FILES:
        needed = [HEAD, *([SPLIT] if manifest.split else [])]
        needed += ADAPTER_FILES if manifest.lora else []
        for name in needed:
            if name not in manifest.files:
                raise InputError(
                    f"{MANIFEST} does not say what {name} holds",
                    where=path,
                    mend="copy the run again, whole",
                )
    require_files(path, manifest.files)
    split = {} if manifest.split is None else _read_split(path / SPLIT)
    return Run(path, manifest, split)


def _read_manifest(path: Path) -> RunManifest:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = int(content["schema_version"])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise InputError("is damaged", where=path, mend="copy the run again, whole") from error
    if schema > SCHEMA:
        raise InputError(
            f"has schema {schema}, newer than {SCHEMA}", where=path, mend="upgrade cytodino"
        )
    try:
        return RunManifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        raise InputError(
            f"{field}: {first['msg']}", where=path, mend="copy the run again, whole"
        ) from error


def _read_split(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise InputError(f"{SPLIT} is missing", where=path.parent, mend="copy the run again, whole")
    split: dict[str, list[str]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, None)
            if header == ["id", "part"]:
                for name, part in reader:
                    split.setdefault(part, []).append(name)
        except (ValueError, csv.Error) as error:  # a byte that is no UTF-8 is a ValueError
            raise InputError(
                f"line {reader.line_num} is not an id and a part",
                where=path,
                mend="copy the run again, whole",
            ) from error
    if header != ["id", "part"]:
        raise InputError(
            "does not begin with id,part", where=path, mend="copy the run again, whole"
        )
    return split
