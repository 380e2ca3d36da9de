"""What an archive holds and how fast it reads, without reading all of it."""

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from cytodino.archive.options import NO_OPTIONS, ReadOptions
from cytodino.archive.reader import Archive, open_archive
from cytodino.errors import ArchiveError, CropError
from cytodino.paths import PrintableText
from cytodino.taxonomy import CODES

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLE = 256
"""Rows, spread over the archive, that are read for sizes, faults and rate."""

SLICE = 16
"""Neighbouring rows of the sample that are read at once, as a batch would be."""


class Inspection(BaseModel):
    """What would be read from an archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: PrintableText
    layout: str
    dataset: PrintableText
    """Where in the file the crops are."""
    encoding: str
    """``files``: a row is the bytes of an image file; ``pixels``: it is an array."""
    n: int
    """Crops."""
    sizes: dict[str, int]
    """``width x height`` in pixels to how many: of all crops where the layout tells, else of the
    sample."""
    sampled: int
    """Rows read for this."""
    unusable: dict[int, str]
    """Rows of the sample that cannot be used, and why."""
    dtype: str
    channel_order: str
    filters: tuple[str, ...]
    """HDF5 filters on the crops."""
    checksums: bool
    """One a row: damage in a row is found; without, only what the storage itself finds."""
    how: str
    """How rows are read."""
    notes: tuple[PrintableText, ...]
    """What was taken for granted because the file does not say it."""
    slide: PrintableText
    ids: bool
    coords: bool
    labels: dict[str, int] | None
    """Crops by class code, those that occur; None where nothing is labelled at all."""
    unlabelled: int
    file_bytes: int
    crops_per_second: float
    """Reading, checking and decoding the sample, on this machine, now."""
    threads: int
    """That decoded."""


def inspect_archive(path: Path, options: ReadOptions = NO_OPTIONS) -> Inspection:
    """Open an archive, read a sample of it, and say what is in it.

    Parameters
    ----------
    path : the archive
    options : what the user says about the file that it does not say itself

    Raises
    ------
    MissingPathError
        If the file is not there.
    ArchiveError
        If it cannot be read as an archive.
    """
    with open_archive(path, options=options, probe=True) as archive:
        sizes: Counter[str] = Counter()
        unusable: dict[int, str] = {}
        rows = _sample(archive.n, SAMPLE, SLICE)
        archive.read(0, SLICE)  # starts the threads, which is not part of the rate
        begun = time.perf_counter()
        for start, stop in rows:
            for row, crop in enumerate(archive.read(start, stop), start=start):
                if isinstance(crop, CropError):
                    unusable[row] = crop.reason
                else:
                    sizes[f"{crop.shape[1]} x {crop.shape[0]}"] += 1
        seconds = time.perf_counter() - begun
        sampled = sum(stop - start for start, stop in rows)
        if archive.size is not None:
            sizes = Counter({f"{archive.size[1]} x {archive.size[0]}": archive.n})
        labels = archive.labels
        return Inspection(
            path=path,
            layout=archive.layout,
            dataset=archive.dataset,
            encoding=archive.encoding,
            n=archive.n,
            sizes=dict(sizes.most_common()),
            sampled=sampled,
            unusable=unusable,
            dtype=archive.dtype,
            channel_order=archive.channel_order,
            filters=archive.filters,
            checksums=archive.checksums is not None,
            how=archive.how,
            notes=archive.notes,
            slide=archive.slide,
            ids=archive.has_ids,
            coords=archive.coords is not None,
            labels=None if labels is None else _count(labels),
            unlabelled=archive.n if labels is None else int(np.sum(labels < 0)),
            file_bytes=path.stat().st_size,
            crops_per_second=sampled / seconds,
            threads=archive.threads,
        )


def draw_contact_sheet(
    path: Path, *, crops: int = 30, columns: int = 6, options: ReadOptions = NO_OPTIONS
) -> "Image":
    """Draw crops spread over an archive, as the model gets them, with row and label.

    Raises
    ------
    ArchiveError
        If none of them can be used.
    """
    from cytodino.pictures import contact_sheet

    with open_archive(path, options=options) as archive:
        pixels: list[np.ndarray] = []
        captions: list[str] = []
        for row, _ in _sample(archive.n, crops, 1):
            crop = archive.read(row, row + 1)[0]
            if not isinstance(crop, CropError):
                pixels.append(crop)
                captions.append(f"{row} {_code(archive, row)}".strip())
        if not pixels:
            raise ArchiveError(
                "has no crop that can be shown", where=path, mend="pack the images again"
            )
        return contact_sheet(pixels, captions, min(columns, len(pixels)))


def _sample(n: int, rows: int, length: int) -> list[tuple[int, int]]:
    """Spread slices of ``length`` rows, ``rows`` together, evenly over ``n``."""
    if n <= rows:
        return [(start, min(start + length, n)) for start in range(0, n, length)]
    starts = np.linspace(0, n - length, rows // length).astype(int)
    return [(int(start), int(start) + length) for start in starts]


def _count(labels: np.ndarray) -> dict[str, int]:
    counts = np.bincount(labels[labels >= 0], minlength=len(CODES))
    return {code: int(count) for code, count in zip(CODES, counts, strict=True) if count}


def _code(archive: Archive, row: int) -> str:
    labels = archive.labels
    return "" if labels is None or labels[row] < 0 else CODES[labels[row]]
