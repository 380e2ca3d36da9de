"""Writing archives: every crop proved readable, checksums beside it, renamed when whole."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args
from zlib import crc32

import h5py
import numpy as np

from cytodino.archive.newfile import NewFile, refuse_existing
from cytodino.archive.own import FORMAT, VERSION
from cytodino.archive.reader import available_threads
from cytodino.errors import CropError, InputError
from cytodino.images import checksum, decode_rgb
from cytodino.taxonomy import CODES

if TYPE_CHECKING:
    from cytodino.cells import CellSource

T = TypeVar("T")

Encoding = Literal["jpeg", "raw"]
Compression = Literal["none", "gzip", "lz4", "zstd"]
Progress = Callable[[int, int], object]
"""Called after each crop with the number done and the number of all."""

GZIP_LEVEL = 4
ZSTD_LEVEL = 3
TABLE_CHUNK = 1 << 16
"""Rows in a chunk of the tables beside the crops."""
MAX_REPORTED = 10
"""Unusable crops that are looked for before packing gives up."""


@dataclass(frozen=True)
class Written:
    """What went into an archive."""

    sizes: dict[tuple[int, int], int]
    """(height, width) in pixels to the number of crops."""


def write_archive(
    path: Path,
    cells: "CellSource",
    *,
    encoding: Encoding = "jpeg",
    compression: Compression = "none",
    slide: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write cells to a new HDF5 archive. The same cells give the same bytes.

    Parameters
    ----------
    path : the archive; it is written beside its place and renamed when it is whole
    cells : at least one
    encoding : ``jpeg`` keeps the files' own bytes, whatever their format; ``raw`` writes pixels
    compression : of raw pixels, lossless
    slide : name of the slide; by default what the cells say
    progress : called after each crop

    Raises
    ------
    CropError
        If one crop cannot be used; `InputError` naming them if several cannot.
    ArchiveError
        If the target exists or cannot be written.
    InputError
        If raw crops are not of one size, or there are none.
    """
    _check_request(path, cells, encoding, compression)
    with NewFile(path) as new:
        write = _write_files if encoding == "jpeg" else _write_pixels
        sizes = write(new, cells, compression, progress)
        _write_tables(new.hdf5, cells)
        new.hdf5.attrs["version"] = VERSION
        _write_text(new.hdf5, "format", FORMAT)
        _write_text(new.hdf5, "slide", cells.slide if slide is None else slide)
        _write_text(new.hdf5, "channel_order", "rgb")
    return Written(sizes)


def _check_request(
    path: Path, cells: "CellSource", encoding: Encoding, compression: Compression
) -> None:
    if encoding not in get_args(Encoding):
        raise InputError(f"no encoding is called {encoding}", mend="choose jpeg or raw")
    if compression not in get_args(Compression):
        raise InputError(
            f"no compression is called {compression}", mend="choose none, gzip, lz4 or zstd"
        )
    if encoding == "jpeg" and compression != "none":
        raise InputError(
            f"image files are compressed already, {compression} cannot be added",
            mend="leave out the compression, or choose the encoding raw",
        )
    if len(cells) == 0:
        raise InputError("there are no cells to write", where=cells.path)
    refuse_existing(path)


def _write_files(
    new: NewFile, cells: "CellSource", compression: Compression, progress: Progress | None
) -> dict[tuple[int, int], int]:
    """Write the image files end to end."""
    offsets = np.zeros(len(cells) + 1, dtype=np.uint64)
    np.cumsum([_size(cells, row) for row in range(len(cells))], out=offsets[1:])
    # Contiguous: a batch is one read, a row is one read, and /crc32 stands for a checksum.
    payload = new.hdf5.create_dataset("bytes", shape=(int(offsets[-1]),), dtype=np.uint8)

    def prepare(row: int) -> tuple[bytes, tuple[int, int]]:
        data = cells.encoded(row)
        try:
            height, width, _ = decode_rgb(data, cells.where(row)).shape
        except CropError:
            cells.read(row)  # fails alike, and knows the row of an archive
            raise
        return data, (height, width)

    checksums = np.zeros(len(cells), dtype=np.uint32)
    sizes: Counter[tuple[int, int]] = Counter()
    for row, (data, size) in enumerate(_prepared(prepare, cells, progress)):
        sizes[size] += 1
        begin, end = int(offsets[row]), int(offsets[row + 1])
        if len(data) != end - begin:
            raise CropError(
                "changed while it was packed", where=cells.where(row), mend="pack again"
            )
        payload[begin:end] = np.frombuffer(data, dtype=np.uint8)
        new.check()
        checksums[row] = crc32(data)
    new.hdf5.create_dataset("offsets", data=offsets, **_table(len(offsets)))
    new.hdf5.create_dataset("crc32", data=checksums, **_table(len(checksums)))
    return dict(sizes)


def _size(cells: "CellSource", row: int) -> int:
    try:
        return cells.encoded_size(row)
    except CropError:  # is met again when the row is prepared, and named with all others
        return 0


def _write_pixels(
    new: NewFile, cells: "CellSource", compression: Compression, progress: Progress | None
) -> dict[tuple[int, int], int]:
    """Write pixels, one crop a chunk."""
    checksums = np.zeros(len(cells), dtype=np.uint32)
    payload: h5py.Dataset | None = None
    shape: tuple[int, ...] = ()
    for row, pixels in enumerate(_prepared(cells.read, cells, progress)):
        if payload is None:
            shape = pixels.shape
            payload = new.hdf5.create_dataset(
                "crops",
                shape=(len(cells), *shape),
                chunks=(1, *shape),
                dtype=np.uint8,
                **_filters(compression),
            )
        if pixels.shape != shape:
            raise InputError(
                f"crops differ in size: {cells.ids[0]} is {shape[1]} x {shape[0]} px, "
                f"{cells.ids[row]} is {pixels.shape[1]} x {pixels.shape[0]} px",
                where=cells.path,
                mend="pack with --encoding jpeg, which keeps each at its size",
            )
        payload[row] = pixels
        new.check()
        checksums[row] = checksum(pixels)
    new.hdf5.create_dataset("crc32", data=checksums, **_table(len(checksums)))
    return {(shape[0], shape[1]): len(cells)}


def _write_tables(file: h5py.File, cells: "CellSource") -> None:
    n = len(cells)
    # Fixed lengths: HDF5 allows no checksum on text of variable length.
    ids = [id_.encode("utf-8") for id_ in cells.ids]
    kind = h5py.string_dtype("utf-8", max(1, *map(len, ids)))
    file.create_dataset("ids", data=np.array(ids, dtype=kind), dtype=kind, **_table(n))
    if cells.labels is not None:
        codes = [b"" if label < 0 else CODES[label].encode() for label in cells.labels.tolist()]
        kind = h5py.string_dtype("ascii", len(CODES[0]))
        file.create_dataset("labels", data=np.array(codes, dtype=kind), dtype=kind, **_table(n))
    if cells.coords is not None:
        coords = np.asarray(cells.coords, dtype=np.int64)
        file.create_dataset("coords", data=coords, **_table(n, 2))


def _write_text(file: h5py.File, name: str, text: str) -> None:
    # Fixed length again: it lies in the header, under its checksum. Text of variable length lies
    # in a heap that has none, and HDF5 was seen to read a damaged one for ever.
    data = text.encode("utf-8", "replace")  # a folder may be called what is no UTF-8
    kind = h5py.string_dtype("utf-8", max(1, len(data)))
    file.attrs.create(name, np.array(data, dtype=kind), dtype=kind)


def _table(*shape: int) -> dict[str, Any]:
    return {"chunks": (min(shape[0], TABLE_CHUNK), *shape[1:]), "fletcher32": True}


def _filters(compression: Compression) -> dict[str, Any]:
    """Return the options of h5py for a compression.

    No shuffle, which does nothing to single bytes.
    """
    if compression == "none":
        # fletcher32 would find nothing that /crc32 does not, for two thirds of the reading rate.
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": GZIP_LEVEL}
    import hdf5plugin

    filters = hdf5plugin.LZ4() if compression == "lz4" else hdf5plugin.Zstd(clevel=ZSTD_LEVEL)
    return dict(filters)


def _prepared(
    prepare: Callable[[int], T], cells: "CellSource", progress: Progress | None
) -> Iterator[T]:
    """Yield what ``prepare`` makes of each row, in order, made a few rows ahead in threads.

    After the first crop that cannot be used nothing more is yielded, but the rest is looked at,
    so that one error names them all.
    """
    unusable: list[CropError] = []
    for done, result in enumerate(_ahead(prepare, len(cells)), start=1):
        if isinstance(result, CropError):
            unusable.append(result)
            if len(unusable) == MAX_REPORTED:
                break
        elif not unusable:
            yield result
        if progress is not None:
            progress(done, len(cells))
    if len(unusable) == 1:
        raise unusable[0]
    if unusable:
        named = "; ".join(
            f"{error.where if error.row is None else f'row {error.row}'} {error.reason}"
            for error in unusable
        )
        count = f"{MAX_REPORTED} or more" if len(unusable) == MAX_REPORTED else len(unusable)
        raise InputError(
            f"{count} images cannot be used: {named}",
            where=cells.path,
            mend="replace them, or leave them out",
        ) from unusable[0]


def _ahead(prepare: Callable[[int], T], n: int) -> Iterator[T | CropError]:
    def attempt(row: int) -> T | CropError:
        try:
            return prepare(row)
        except CropError as error:
            return error

    threads = available_threads()
    rows = iter(range(n))
    with ThreadPoolExecutor(threads, "pack") as pool:
        waiting: deque[Future[T | CropError]] = deque()
        waiting.extend(pool.submit(attempt, row) for row in islice(rows, 4 * threads))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(attempt, row) for row in islice(rows, 1))
            yield result
