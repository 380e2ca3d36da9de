"""The tables beside the crops: ids, labels, coordinates."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from cytodino.archive.contents import describe, list_datasets
from cytodino.archive.hdf5 import MAX_NAME_BYTES, find_dataset, reading, require_honest_chunks
from cytodino.archive.layout import Layout, as_text
from cytodino.archive.options import ReadOptions
from cytodino.errors import ArchiveError
from cytodino.taxonomy import CODES, N_CLASSES, unknown_classes
from cytodino.texts import Texts

ROWS_AT_ONCE = 4096
"""Ids that are Python objects together."""


class Tables:
    """What is known of each crop of an open archive, read when it is asked for.

    Tables that this project wrote, or that the user named, have to fit. Another tool's that does
    not is left out, and `notes` say so.
    """

    def __init__(self, layout: Layout, options: ReadOptions) -> None:
        self._layout = layout
        self._file: h5py.File = layout.file
        self._path: Path = layout.path
        self._n = layout.n
        self.notes: list[str] = []
        self._ids = self._find("ids", options.ids)
        self._labels = self._find("labels", options.labels)
        self._coords = self._find("coords", None)

    @property
    def has_ids(self) -> bool:
        """Whether crops are called something else than their row."""
        return self._ids is not None or self._layout.ids is not None

    @cached_property
    def ids(self) -> list[str]:
        """What each crop is called; its row number where the archive does not say."""
        if self._ids is None and self._layout.ids:
            return self._layout.ids
        return list(self.names)

    @cached_property
    def names(self) -> Texts:
        """The ids again, in less than half the memory."""
        starts = range(0, self._n, ROWS_AT_ONCE)
        return Texts(self._read_ids(at, min(at + ROWS_AT_ONCE, self._n)) for at in starts)

    def _read_ids(self, start: int, stop: int) -> Sequence[str]:
        if self._ids is None:
            known = self._layout.ids
            return known[start:stop] if known else [str(row) for row in range(start, stop)]
        with reading(self._path, self._ids.name):
            values = self._ids[start:stop].tolist()
            return [as_text(v) if isinstance(v, bytes | str) else str(v) for v in values]

    @cached_property
    def labels(self) -> np.ndarray | None:
        """int64 (n,), class index, -1 where unlabelled."""
        if self._labels is None:
            return None
        with reading(self._path, self._labels.name):
            values = self._labels[:]
        if values.dtype.kind in "iu":
            if values.max() >= N_CLASSES or values.min() < -1:
                raise ArchiveError(
                    f"{self._labels.name} has numbers outside 0 to {N_CLASSES - 1}",
                    where=self._path,
                    mend="write the codes of the classes instead",
                )
            return np.asarray(values.astype(np.int64))
        return self._indices(values.tolist(), self._labels.name)

    @cached_property
    def coords(self) -> np.ndarray | None:
        """int64 (n, 2), x and y of each crop on the slide in pixels."""
        if self._coords is None:
            return self._layout.coords
        with reading(self._path, self._coords.name):
            return np.asarray(self._coords[:]).astype(np.int64)

    def _indices(self, values: Sequence[bytes | str], name: str) -> np.ndarray:
        with reading(self._path, name):
            codes = [as_text(value) for value in values]
        index = {code: position for position, code in enumerate(CODES)}
        index[""] = -1
        unknown = set(codes).difference(index)
        if unknown:
            raise unknown_classes(unknown, where=f"{self._path}: {name}")
        return np.array([index[code] for code in codes], dtype=np.int64)

    def _find(self, kind: str, option: str | None) -> h5py.Dataset | None:
        name = option or self._layout.tables.get(kind)
        if name is None:
            return None
        dataset = find_dataset(self._file, self._path, name)
        if dataset is None:
            if option is not None:
                raise self._missing(kind, option)
            return None
        with reading(self._path, dataset.name):
            wrong = self._fault_of(dataset, kind)
        if wrong is None:
            require_honest_chunks(dataset, self._path)
            return dataset
        if option is None and not self._layout.strict:
            self.notes.append(f"{dataset.name} {wrong}: it is left out")
            return None
        mend = "pack the images again" if option is None else f"name another: --{kind} NAME"
        raise ArchiveError(f"{dataset.name} {wrong}", where=self._path, mend=mend)

    def _fault_of(self, dataset: h5py.Dataset, kind: str) -> str | None:
        """Check what can be checked without reading."""
        shape = (self._n, 2) if kind == "coords" else (self._n,)
        if dataset.shape != shape:
            return f"has the shape {dataset.shape}, not {shape}"
        if dataset.dtype.itemsize > MAX_NAME_BYTES:
            return f"has entries of {dataset.dtype.itemsize} bytes"
        text = kind != "coords" and h5py.check_string_dtype(dataset.dtype) is not None
        numbers = dataset.dtype.kind in "iu" and not (kind == "ids" and self._layout.strict)
        if not text and not numbers:
            return f"is {dataset.dtype}, not {'whole numbers' if kind == 'coords' else 'text'}"
        if dataset.id.get_storage_size() == 0:
            return "was never written"
        return None

    def _missing(self, kind: str, name: str) -> ArchiveError:
        return ArchiveError(
            f"has no dataset {name}; it holds {describe(list_datasets(self._file, self._path))}",
            where=self._path,
            mend=f"name another, or leave out --{kind}",
        )
