"""Opening HDF5 files and datasets that strangers wrote, and saying what is wrong with them."""

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from cytodino.errors import ArchiveError, MissingPathError

FILTERS = {
    1: "gzip",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32015: "zstd",
    32026: "blosc2",
}
"""Names of the filters people use, by their registered numbers."""

FAULTS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError)
"""What h5py raises when the file, not the caller, is at fault."""

MAX_CHUNK_BYTES = 1 << 30
"""HDF5 takes this much memory at once for a filtered chunk."""

MAX_SLICE_BYTES = 256 << 20
"""What is read at once; longer slices are read in parts."""

SPARE_CHUNK_BYTES = 4096
"""Beside an eighth, what a filter may add to a chunk that it cannot make smaller."""

INDEX_BYTES = 256 << 10
"""What HDF5 keeps of its index of chunks, as it lies on the disk; measured with 50,000 chunks: no
slower than what it keeps by default, one row at random included."""

MAX_NAME_BYTES = 4096
"""Longest id that is read; the longest path of Linux."""


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading.

    Raises
    ------
    MissingPathError
        If the file is not there.
    ArchiveError
        If it is no HDF5 file, is truncated, or is being written by another program.
    """
    if not path.exists():
        raise MissingPathError(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a device or a pipe"
        raise ArchiveError(f"is {what}, not an HDF5 file", where=path, mend="name one .h5 file")
    if not os.access(path, os.R_OK):
        raise ArchiveError("may not be read", where=path, mend="ask for permission to read it")
    try:
        # A file that somebody writes is locked, and then is_hdf5 answers False.
        file = h5py.File(path, "r")
        bound_index(file)
        return file
    except OSError as error:
        raise _open_error(path, error) from error
    except FAULTS as error:
        raise ArchiveError(f"cannot be opened ({_line(error)})", where=path) from error


def bound_index(file: h5py.File) -> None:
    """Keep what HDF5 knows of a file's structure from growing in memory with the number of crops.

    It takes 280 bytes a chunk of what it has looked up, up to 32 MB as they lie on the disk, which
    is some 150 MB in memory. What is read or written in order is not looked up twice.
    """
    settings = file.id.get_mdc_config()
    settings.set_initial_size = True
    settings.initial_size = settings.min_size = settings.max_size = INDEX_BYTES
    settings.incr_mode = settings.flash_incr_mode = settings.decr_mode = 0  # a fixed size
    file.id.set_mdc_config(settings)


def _open_error(path: Path, error: OSError) -> ArchiveError:
    text = str(error)
    if error.errno in (errno.EAGAIN, errno.EACCES) or "already open for write" in text:
        return ArchiveError(
            "is open for writing in another program, or was when that was killed",
            where=path,
            mend="try again when the writer is done, or run: h5clear -s FILE",
        )
    if "file signature not found" in text:
        return ArchiveError("is not an HDF5 file", where=path, mend="name an archive of crops")
    if "truncated file" in text:
        return ArchiveError("is truncated", where=path, mend="copy or write it again")
    return ArchiveError(
        f"cannot be opened ({_line(error)})", where=path, mend="copy or write it again"
    )


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into an `ArchiveError` that names ``what``."""
    try:
        yield
    except FAULTS as error:
        raise ArchiveError(
            f"{what} cannot be read ({_line(error)})", where=path, mend="copy or write it again"
        ) from error


def find_dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset | None:
    """Return a dataset that lies in this very file, or None where there is none of the name.

    Raises
    ------
    ArchiveError
        If the name leads into another file, if a filter is not installed, or if a chunk is too
        large to be read.
    """
    name = name.strip("/")
    with reading(path, f"/{name}"):
        found: h5py.HLObject = file
        for part in name.split("/"):
            # Link by link: a path may lead out of the file before its last part.
            link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise elsewhere(path, name)
            found = found[part]
        if not isinstance(found, h5py.Dataset):
            return None
        if found.external or found.is_virtual:
            raise elsewhere(path, name)
        _check_filters(found, path)
        if found.chunks is not None:
            # Python integers: the product of absurd extents must not wrap around.
            size = found.dtype.itemsize
            for extent in found.chunks:
                size *= int(extent)
            if size > MAX_CHUNK_BYTES:
                raise ArchiveError(
                    f"/{name} has chunks of {size} bytes",
                    where=path,
                    mend="write it again with one crop a chunk",
                )
        return found


def require_honest_chunks(dataset: h5py.Dataset, path: Path) -> None:
    """Refuse chunks that are stored in more bytes than they are to be decoded to.

    HDF5 decodes a chunk to whatever length it takes: some megabytes of gzip where a table of
    kilobytes should be are gigabytes in memory.

    Raises
    ------
    ArchiveError
        If there is one, or the index cannot be read.
    """
    if dataset.chunks is None or not filter_pipeline(dataset):
        return
    size = dataset.dtype.itemsize * math.prod(map(int, dataset.chunks))
    largest = 0

    def look(chunk: h5py.h5d.StoreInfo) -> None:
        nonlocal largest
        largest = max(largest, chunk.size)

    with reading(path, f"the index of {dataset.name}"):
        dataset.id.chunk_iter(look)
    if largest > size + size // 8 + SPARE_CHUNK_BYTES:
        raise ArchiveError(
            f"{dataset.name} has a chunk of {largest} bytes that should hold {size}",
            where=path,
            mend="copy or write it again",
        )


def changed(path: Path) -> ArchiveError:
    """Say that a file is no longer what it was when it was opened."""
    return ArchiveError(
        "was changed while it was read",
        where=path,
        mend="see that nothing writes to it, and give the same command again",
    )


def elsewhere(path: Path, name: str) -> ArchiveError:
    """Say that a name leads out of the file."""
    return ArchiveError(
        f"/{name} is a link or lies in another file",
        where=path,
        mend="copy the data into the archive",
    )


def filter_names(dataset: h5py.Dataset) -> tuple[str, ...]:
    """Return the names of a dataset's filters, in the order in which they were applied."""
    return tuple(FILTERS.get(code, f"filter {code}") for code, _ in filter_pipeline(dataset))


def filter_pipeline(dataset: h5py.Dataset) -> list[tuple[int, tuple[int, ...]]]:
    """Return number and parameters of a dataset's filters, in the order of their application."""
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(position) for position in range(plist.get_nfilters())]
    return [(code, values) for code, _, values, _ in filters]


def _check_filters(dataset: h5py.Dataset, path: Path) -> None:
    missing = [code for code, _ in filter_pipeline(dataset) if not h5py.h5z.filter_avail(code)]
    if not missing:
        return
    import hdf5plugin  # noqa: F401 - importing it registers its filters, which takes a while

    for code in missing:
        if not h5py.h5z.filter_avail(code):
            name = FILTERS.get(code, f"number {code}")
            raise ArchiveError(
                f"{dataset.name} needs the HDF5 filter {name}, which is not installed",
                where=path,
                mend="install its plugin, or write the archive again with gzip",
            )


def unwritten_rows(dataset: h5py.Dataset) -> np.ndarray:
    """Tell which rows have a part that was never written; HDF5 reads those as zeros.

    Parameters
    ----------
    dataset : any shape (n, ...) with n >= 1

    Returns
    -------
    bool, (n,)
    """
    n = dataset.shape[0]
    if dataset.chunks is None:
        space = dataset.id.get_space_status()
        return np.full(n, space == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED)
    rows, *extents = dataset.chunks
    a_band = 1
    for length, extent in zip(dataset.shape[1:], extents, strict=True):
        a_band *= -(-length // extent)
    bands = -(-n // rows)
    stored = np.zeros(bands, dtype=np.int64)
    if dataset.id.get_num_chunks() < bands * a_band:

        def count(chunk: h5py.h5d.StoreInfo) -> None:
            stored[chunk.chunk_offset[0] // rows] += 1

        dataset.id.chunk_iter(count)
    else:
        stored[:] = a_band
    return np.repeat(stored < a_band, rows)[:n]


def _line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].strip("'\" ")
