"""The files of one archive's results: written beside, renamed together, the summary last."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cytodino.archive.hdf5 import bound_index
from cytodino.archive.sink import writing_hdf5
from cytodino.errors import InputError
from cytodino.paths import hash_file, printable
from cytodino.taxonomy import CODES, N_CLASSES
from cytodino_batch.classification import ROWS_AT_ONCE, Classification
from cytodino_batch.plan import (
    PREDICTIONS_CSV,
    PREDICTIONS_H5,
    QUARANTINE_CSV,
    RESULT_FILES,
    SUMMARY_NAME,
)

PREDICTIONS_HEADER = (
    "row", "id", "x", "y", "label", "confidence", "runner_up", "critical", "review",
)  # fmt: skip
QUARANTINE_HEADER = ("row", "id", "reason")

PREDICTIONS_VERSION = 1

_WANTS_QUOTES = re.compile(r'[,"\r\n]').search
_CODES = np.array(CODES)
PARTIAL = ".partial"
"""How the name of a file ends that is still being written."""


FileWriter = Callable[[Path, Classification, Mapping[str, str]], None]
"""Writes one file of a result, with the provenance that it is to carry."""

NO_EXTRAS: Mapping[str, FileWriter] = {}


def write_results(
    folder: Path,
    result: Classification,
    *,
    attributes: Mapping[str, str],
    summarise: Callable[[Mapping[str, str]], str],
    extras: Mapping[str, FileWriter] = NO_EXTRAS,
) -> None:
    """Write the files of one archive; either all are there afterwards or none is.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Files of an earlier, unfinished attempt are replaced, or removed.
    attributes : mapping
        Provenance that `predictions.h5` carries, and further files may.
    summarise : function
        Takes the sha256 of each of the other files by name; returns the text of `summary.json`.
    extras : mapping
        Writers of further files, by name.

    Raises
    ------
    InputError
        If another run has finished the archive meanwhile; its files stay.
    OSError
        If the disk refuses; nothing is left behind then.
    """
    writers: dict[str, FileWriter] = {
        PREDICTIONS_CSV: lambda path, result, _: write_predictions_csv(path, result),
        PREDICTIONS_H5: write_predictions_h5,
        QUARANTINE_CSV: lambda path, result, _: write_quarantine_csv(path, result),
        **extras,
    }
    with _all_or_nothing(folder, (*writers, SUMMARY_NAME)) as beside:
        hashes = {}
        for name, write in writers.items():
            write(beside[name], result, attributes)
            hashes[name] = hash_file(beside[name])
        beside[SUMMARY_NAME].write_text(summarise(hashes), encoding="utf-8", newline="\n")


def changed_files(folder: Path, hashes: Mapping[str, str]) -> tuple[str, ...]:
    """Say which files of finished results are no longer there, or no longer what was written.

    Parameters
    ----------
    folder : Path
    hashes : mapping
        sha256 by name, as the summary has them.

    Raises
    ------
    OSError
        If one cannot be read.
    """
    found = []
    for name, sha256 in hashes.items():
        if not (folder / name).is_file():
            found.append(f"{name} is gone")
        elif hash_file(folder / name) != sha256:
            found.append(f"{name} was changed")
    return tuple(found)


def remove_results(folder: Path) -> None:
    """Remove finished results, the summary first: without it the rest counts as unfinished."""
    for name in reversed(RESULT_FILES):
        (folder / name).unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what a run that was killed while it wrote results left beside them."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def write_predictions_csv(path: Path, result: Classification) -> None:
    """Write one line a classified crop, in row order; x and y are empty without coordinates.

    Ids stand as they are: one that begins with `=` must still lead back to its crop.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(PREDICTIONS_HEADER) + "\n")
        for part in result.parts():
            file.writelines(
                f"{row},{_quoted(name)},{x},{y},{label},{confidence:.6f},{second},{critical:d},"
                f"{review:d}\n"
                for row, name, x, y, label, confidence, second, critical, review in zip(
                    *_columns(result, part), strict=True
                )
            )


def _columns(result: Classification, part: slice) -> Iterator[Iterable[Any]]:
    """Give the columns of `predictions.csv` as Python's own values: numpy's are slow one by one."""
    rows = result.rows[part]
    yield rows.tolist()
    yield _ids(result, part)
    for axis in (0, 1):
        yield repeat("", len(rows)) if result.coords is None else _plain(result.coords[rows, axis])
    best, second = _CODES[result.ranking[part]].T.tolist()
    yield best
    yield result.confidence[part].tolist()
    yield second
    yield result.critical[part].tolist()
    yield result.review[part].tolist()


def _quoted(text: str) -> str:
    """Quote a field of a CSV file where it has to be (RFC 4180), a lone carriage return too."""
    return '"' + text.replace('"', '""') + '"' if _WANTS_QUOTES(text) else text


def _ids(result: Classification, part: slice) -> list[str]:
    return [printable(result.ids[row]) for row in result.rows[part].tolist()]


def _plain(values: NDArray[np.generic]) -> list[object]:
    """Numbers that print as they were stored: a float32 would get the digits of a float64."""
    if values.dtype.kind == "f" and values.itemsize < 8:
        return [str(value) for value in values]
    return list(values.tolist())


def write_quarantine_csv(path: Path, result: Classification) -> None:
    """Write one line a row that was not classified; the header alone where there is none."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(QUARANTINE_HEADER) + "\n")
        for entry in result.quarantined:
            name = _quoted(printable(result.ids[entry.row]))
            file.write(f"{entry.row},{name},{_quoted(entry.reason)}\n")


def write_predictions_h5(path: Path, result: Classification, attributes: Mapping[str, str]) -> None:
    """Write all probabilities and logits, with checksums; the same result gives the same bytes."""
    with writing_hdf5(path, track_order=False) as writing:
        file = writing.hdf5
        bound_index(file)
        file.attrs["format"] = "cytodino predictions"
        file.attrs["version"] = PREDICTIONS_VERSION
        file.attrs["classes"] = np.array(CODES, dtype=h5py.string_dtype())
        for name, value in attributes.items():
            file.attrs[name] = value
        n = len(result.rows)
        probabilities = _create_table(file, "probabilities", (n, N_CLASSES), np.float32)
        logits = _create_table(file, "logits", (n, N_CLASSES), np.float32)
        rows = _create_table(file, "rows", (n,), np.int64)
        # Of any length, so HDF5 keeps no checksum of them; `summary.json` has the file's.
        ids = file.create_dataset("ids", (n,), dtype=h5py.string_dtype(), track_times=False)
        for part in result.parts():
            probabilities[part] = result.probabilities(part)
            logits[part] = result.logits[part]
            rows[part] = result.rows[part]
            ids[part] = _ids(result, part)
            writing.check()


def _create_table(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: type[np.generic]
) -> h5py.Dataset:
    """Make a dataset of numbers in chunks with checksums, which an empty one cannot have."""
    layout = {"chunks": (min(shape[0], ROWS_AT_ONCE), *shape[1:]), "fletcher32": True}
    # HDF5 would otherwise stamp each dataset with the time of writing.
    return file.create_dataset(
        name, shape, dtype=dtype, track_times=False, **(layout if shape[0] else {})
    )


@contextmanager
def _all_or_nothing(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Give each file a place beside its own; move all in order at the end, or leave none."""
    absent = [level for level in (folder, *folder.parents) if not level.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    beside = {name: folder / f".{name}.{os.getpid()}{PARTIAL}" for name in names}
    moved: list[Path] = []
    try:
        yield beside
        for path in beside.values():
            _flush_to_disk(path)
        _refuse_finished(folder)
        for name in set(RESULT_FILES) - set(names):  # an unfinished attempt that wrote more
            (folder / name).unlink(missing_ok=True)
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
