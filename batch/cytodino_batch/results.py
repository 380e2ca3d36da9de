"""The files of one archive's results: written beside, renamed together, the summary last."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TextIO

import h5py
import numpy as np
from numpy.typing import NDArray

from cytodino.errors import InputError
from cytodino.paths import hash_file, printable
from cytodino.statistics import softmax
from cytodino.taxonomy import CODES, CRITICAL
from cytodino_batch.plan import PREDICTIONS_H5, SUMMARY_NAME
from cytodino_batch.stream import Block, QuarantinedRow

PREDICTIONS_CSV = "predictions.csv"
QUARANTINE_CSV = "quarantine.csv"

PREDICTIONS_HEADER = (
    "row", "id", "x", "y", "label", "confidence", "runner_up", "critical", "review",
)  # fmt: skip
QUARANTINE_HEADER = ("row", "id", "reason")

PREDICTIONS_VERSION = 1

_CRITICAL_INDICES = np.array([index for index, code in enumerate(CODES) if code in CRITICAL])


@dataclass(frozen=True)
class Classification:
    """What came of one archive's rows."""

    rows: NDArray[np.int64]
    """(k,), the rows that were classified, ascending."""
    logits: NDArray[np.float32]
    """(k, 21)"""
    quarantined: tuple[QuarantinedRow, ...]
    ids: Sequence[str]
    """One a row of the archive, classified or not."""
    coords: NDArray[np.generic] | None
    """(n, 2), x and y a row of the archive, in its own unit, usually pixels of the slide."""
    review_below: float
    """Confidence, 0 to 1, below which a cell is for review; critical classes always are."""

    @classmethod
    def from_blocks(
        cls,
        blocks: Sequence[Block],
        *,
        ids: Sequence[str],
        coords: NDArray[np.generic] | None,
        review_below: float,
    ) -> "Classification":
        """Put the blocks of a whole archive together."""
        return cls(
            rows=np.concatenate([block.rows for block in blocks]),
            logits=np.concatenate([block.logits for block in blocks]),
            quarantined=tuple(row for block in blocks for row in block.quarantined),
            ids=ids,
            coords=coords,
            review_below=review_below,
        )

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(k, 21), softmax of the logits; every decision is taken on these."""
        return softmax(self.logits).astype(np.float32)

    @cached_property
    def ranking(self) -> NDArray[np.int64]:
        """(k, 2), class indices of the largest and second largest logit."""
        return np.argsort(-self.logits, axis=1, kind="stable")[:, :2]

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """(k,), probability of the class that was chosen, 0 to 1."""
        return np.take_along_axis(self.probabilities, self.ranking[:, :1], axis=1)[:, 0]

    @cached_property
    def critical(self) -> NDArray[np.bool_]:
        """(k,), whether the class that was chosen is one of the critical ones."""
        return np.isin(self.ranking[:, 0], _CRITICAL_INDICES)

    @cached_property
    def critical_runner_up(self) -> NDArray[np.bool_]:
        """(k,), whether the second most probable class is one of the critical ones."""
        return np.isin(self.ranking[:, 1], _CRITICAL_INDICES)

    @cached_property
    def review(self) -> NDArray[np.bool_]:
        """(k,), whether a person should look: critical, or confidence below `review_below`."""
        return self.critical | (self.confidence < self.review_below)


def write_results(
    folder: Path,
    result: Classification,
    *,
    attributes: Mapping[str, str],
    summarise: Callable[[Mapping[str, str]], str],
) -> None:
    """Write the four files of one archive; either all are there afterwards or none is.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Files of an earlier, unfinished attempt are replaced.
    attributes : mapping
        Provenance that `predictions.h5` carries.
    summarise : function
        Takes the sha256 of each of the other files by name; returns the text of `summary.json`.

    Raises
    ------
    InputError
        If another run has finished the archive meanwhile; its files stay.
    OSError
        If the disk refuses; nothing is left behind then.
    """
    writers: dict[str, Callable[[Path], None]] = {
        PREDICTIONS_CSV: lambda path: write_predictions_csv(path, result),
        PREDICTIONS_H5: lambda path: write_predictions_h5(path, result, attributes),
        QUARANTINE_CSV: lambda path: write_quarantine_csv(path, result),
    }
    with _all_or_nothing(folder, (*writers, SUMMARY_NAME)) as beside:
        hashes = {}
        for name, write in writers.items():
            write(beside[name])
            hashes[name] = hash_file(beside[name])
        beside[SUMMARY_NAME].write_text(summarise(hashes), encoding="utf-8", newline="\n")


def write_predictions_csv(path: Path, result: Classification) -> None:
    """Write one line a classified crop, in row order; x and y are empty without coordinates."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_LineEnds(file))
        writer.writerow(PREDICTIONS_HEADER)
        for position, row in enumerate(result.rows):
            best, second = result.ranking[position]
            x, y = ("", "") if result.coords is None else result.coords[row]
            writer.writerow(
                (
                    row,
                    printable(result.ids[row]),
                    x,
                    y,
                    CODES[best],
                    f"{result.confidence[position]:.6f}",
                    CODES[second],
                    int(result.critical[position]),
                    int(result.review[position]),
                )
            )


def write_quarantine_csv(path: Path, result: Classification) -> None:
    """Write one line a row that was not classified; the header alone where there is none."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_LineEnds(file))
        writer.writerow(QUARANTINE_HEADER)
        for entry in result.quarantined:
            writer.writerow((entry.row, printable(result.ids[entry.row]), entry.reason))


def write_predictions_h5(path: Path, result: Classification, attributes: Mapping[str, str]) -> None:
    """Write all probabilities and logits; the same result gives the same bytes."""
    ids = [printable(result.ids[row]).encode() for row in result.rows]
    with h5py.File(path, "w", track_order=False) as file:
        file.attrs["format"] = "cytodino predictions"
        file.attrs["version"] = PREDICTIONS_VERSION
        file.attrs["classes"] = np.array(CODES, dtype=h5py.string_dtype())
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, values in (
            ("probabilities", result.probabilities),
            ("logits", result.logits),
            ("rows", result.rows),
            ("ids", np.array(ids, dtype=h5py.string_dtype())),
        ):
            # HDF5 would otherwise stamp each dataset with the time of writing.
            file.create_dataset(name, data=values, track_times=False)


class _LineEnds:
    r"""Lines of `csv.writer`, which quotes a lone \r only if it ends lines with it, ended by \n."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


@contextmanager
def _all_or_nothing(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Give each file a place beside its own; move all in order at the end, or leave none."""
    absent = [level for level in (folder, *folder.parents) if not level.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    beside = {name: folder / f".{name}.{os.getpid()}.partial" for name in names}
    moved: list[Path] = []
    try:
        yield beside
        for path in beside.values():
            _flush_to_disk(path)
        _refuse_finished(folder)
        for name, path in beside.items():
            moved.append(folder / name)
            os.replace(path, folder / name)
    except BaseException:
        for path in (*beside.values(), *moved):
            path.unlink(missing_ok=True)
        for level in absent:
            if not any(level.iterdir()):
                level.rmdir()
        raise


def _refuse_finished(folder: Path) -> None:
    if (folder / SUMMARY_NAME).exists():
        raise InputError(
            "another run finished this archive meanwhile",
            where=folder,
            mend="take its results, or choose another --out",
        )


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
