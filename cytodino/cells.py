"""Cells from an image folder or an archive, behind one interface, without torch."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np

from cytodino.errors import CropError, InputError, MissingPathError
from cytodino.images import checksum, decode_rgb, encode_png, scan_folder

if TYPE_CHECKING:
    from cytodino.archive.options import ReadOptions

Kind = Literal["folder", "archive", "memory"]


class CellSource(ABC):
    """A numbered sequence of crops with ids and, mostly, labels.

    It can be pickled and forked into worker processes: files are opened where they are read.
    """

    path: Path
    """Where the cells come from."""
    kind: Kind
    ids: list[str]
    """File path below the image folder, or ``/ids`` of the archive, or the row number."""
    labels: np.ndarray | None
    """int64 (n,), class index, -1 where unlabelled; None where nothing is labelled at all."""
    coords: np.ndarray | None = None
    """int64 (n, 2), x and y on the slide in pixels, where known."""
    slide: str
    """Name of the slide: what the archive says, else the folder's name."""

    passed_over: int = 0
    """Files of an image folder that are no images."""

    _fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def read(self, index: int) -> np.ndarray:
        """Return one crop: uint8 (h, w, 3), RGB.

        Raises
        ------
        CropError
            If it cannot be read or decoded, or is not RGB.
        """

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """Return the crop as the bytes of an image file: its own, or a PNG of its pixels."""

    def encoded_size(self, index: int) -> int:
        """Return the length in bytes of what `encoded` returns."""
        return len(self.encoded(index))

    @abstractmethod
    def checksum(self, index: int) -> int:
        """Return the crc32 of the crop as it is stored: of its file's bytes, or of its pixels."""

    def checksums(self) -> Iterator[int]:
        """Yield the checksum of every crop, in their order."""
        return map(self.checksum, range(len(self)))

    def stamps(self) -> np.ndarray | None:
        """Return size, time of change and time of status change of each crop's file.

        Returns
        -------
        int64, (n, 3), bytes and nanoseconds since 1970; None where there are no files
        """
        return None

    def where(self, index: int) -> Path:
        """Return the file that a crop lies in, for messages."""
        return self.path

    def fingerprint(self) -> str:
        """Return the sha256 over ids, labels and checksums: equal where the cells are the same.

        A folder and the archive of its files have the same one; an archive of its pixels has
        another. Of a folder, every file is read that was not read before, see `cell_index`.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for index, checksum in enumerate(self.checksums()):
                label = -1 if self.labels is None else int(self.labels[index])
                digest.update(f"{self.ids[index]}\0{label}\0{checksum:08x}\n".encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def subset(self, indices: Sequence[int] | np.ndarray) -> "CellSource":
        """Return the cells at these indices, in their order, as a source of their own."""
        return SelectedCells(self, [int(index) for index in indices])


class FolderCells(CellSource):
    """The images of a folder."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        scan = scan_folder(path)
        self.path = path
        self.ids = scan.ids
        self.labels = scan.labels
        self.slide = path.resolve().name
        self.passed_over = scan.passed_over

    def where(self, index: int) -> Path:
        """Return the image file."""
        return self.path / self.ids[index]

    def read(self, index: int) -> np.ndarray:
        """Decode one file."""
        return decode_rgb(self.encoded(index), self.where(index))

    def encoded(self, index: int) -> bytes:
        """Read one file."""
        with _file_faults(self.where(index)):
            return self.where(index).read_bytes()

    def encoded_size(self, index: int) -> int:
        """Ask for the length of one file."""
        with _file_faults(self.where(index)):
            return self.where(index).stat().st_size

    def checksum(self, index: int) -> int:
        """Return the crc32 of one file's bytes."""
        return crc32(self.encoded(index))

    def checksums(self) -> Iterator[int]:
        """Yield what is remembered of files that are as they were, and read the others."""
        from cytodino.cell_index import read_index

        index = read_index(self)
        for row, (known, stored) in enumerate(zip(index.known, index.stored, strict=True)):
            yield int(stored) if known else self.checksum(row)

    def stamps(self) -> np.ndarray:
        """Ask for the status of every file."""
        found = np.zeros((len(self), 3), dtype=np.int64)
        for row in range(len(self)):
            with _file_faults(self.where(row)):
                status = self.where(row).stat()
            found[row] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        return found


class MemoryCells(CellSource):
    """Crops that are at hand as arrays, such as drawn ones.

    Parameters
    ----------
    crops : each uint8 (h, w, 3), RGB
    ids : as many names, each once; by default the indices
    labels : class index of each crop, -1 where unlabelled
    slide : name of the slide
    """

    kind = "memory"

    def __init__(
        self,
        crops: Sequence[np.ndarray],
        *,
        ids: Sequence[str] | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        slide: str = "memory",
    ) -> None:
        self.path = Path(slide)
        self.slide = slide
        self.ids = [str(row) for row in range(len(crops))] if ids is None else list(ids)
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self._crops = list(crops)
        if not len(self.ids) == len(crops) == len(self.ids if labels is None else labels):
            raise InputError("crops, ids and labels are not of one length", where=slide)

    def read(self, index: int) -> np.ndarray:
        """Return a copy of one crop."""
        return self._crops[index].copy()

    def encoded(self, index: int) -> bytes:
        """Return one crop as a PNG file."""
        return encode_png(self._crops[index])

    def checksum(self, index: int) -> int:
        """Return the crc32 of one crop's pixels."""
        return checksum(self._crops[index])


class SelectedCells(CellSource):
    """Some of another source's cells."""

    def __init__(self, source: CellSource, indices: list[int]) -> None:
        self._source = source
        self._indices = indices
        self.path = source.path
        self.kind = source.kind
        self.slide = source.slide
        self.passed_over = source.passed_over
        self.ids = [source.ids[index] for index in indices]
        chosen = np.asarray(indices, dtype=np.int64)
        self.labels = None if source.labels is None else source.labels[chosen]
        self.coords = None if source.coords is None else source.coords[chosen]

    def where(self, index: int) -> Path:
        """Return the file that a crop lies in."""
        return self._source.where(self._indices[index])

    def read(self, index: int) -> np.ndarray:
        """Read one crop from the source."""
        return self._source.read(self._indices[index])

    def encoded(self, index: int) -> bytes:
        """Return one crop of the source as the bytes of an image file."""
        return self._source.encoded(self._indices[index])

    def encoded_size(self, index: int) -> int:
        """Return the length in bytes of what `encoded` returns."""
        return self._source.encoded_size(self._indices[index])

    def checksum(self, index: int) -> int:
        """Return the source's crc32 of one crop."""
        return self._source.checksum(self._indices[index])


def open_cells(path: Path, options: "ReadOptions | None" = None) -> CellSource:
    """Open an image folder or an HDF5 archive, whichever the path leads to.

    `options` say about an archive what it does not say itself.

    What had to be assumed of an archive is said on stderr: what is packed, trained or judged with
    it would carry the assumption on in silence.

    Raises
    ------
    MissingPathError
        If nothing is there.
    InputError
        If a folder holds no images, or a file is no archive that can be read, or there are
        options though it is a folder.
    TaxonomyError
        If class folders, or labels of an archive, are none of the 21 codes.
    """
    if not path.exists():
        raise MissingPathError(path)
    if path.is_dir():
        _refuse_options(path, options)
        return FolderCells(path)
    from cytodino.archive.cells import ArchiveCells
    from cytodino.archive.options import NO_OPTIONS
    from cytodino.console import message

    cells = ArchiveCells(path, options or NO_OPTIONS)
    for note in cells.notes:
        message(f"warning: {path}: {note}")
    return cells


def require_labels(cells: CellSource) -> np.ndarray:
    """Return the class index of every cell, int64 (n,).

    Raises
    ------
    InputError
        If any cell has no label.
    """
    labels = cells.labels
    if labels is None or not np.any(labels >= 0):
        raise InputError(
            "has no labels",
            where=cells.path,
            mend="sort the images into folders named by class, or pack such a folder",
        )
    missing = np.flatnonzero(labels < 0)
    if len(missing):
        raise InputError(
            f"has no label for {len(missing)} of {len(cells)} cells, such as "
            f"{cells.ids[missing[0]]}",
            where=cells.path,
            mend="label them or leave them out",
        )
    return labels


def _refuse_options(folder: Path, options: "ReadOptions | None") -> None:
    given = [f"--{name.replace('_', '-')}" for name in (options.given() if options else ())]
    if given:
        raise InputError(
            f"is a folder of images, and {', '.join(given)} is for archives",
            where=folder,
            mend="leave it out",
        )


@contextmanager
def _file_faults(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise CropError(reason, where=where, mend="restore or remove the file") from error
