"""Undoing HDF5's filters without HDF5, which undoes them one chunk at a time, under its lock.

Libraries and ways were chosen by measurement (`benchmarks/reader.py`): libdeflate inflates a
crop in less than half of zlib's time, isal in half of it. zstd gains by the second thread, lz4
does not: a crop is done before the threads have agreed on it. Each step is told how many bytes
have to come out, allocates no more than that whatever the data declares, and returns None where
something else comes out.
"""

import struct
from collections.abc import Callable

import deflate
import h5py
import lz4.block
import numpy as np
import zstandard

from cytodino.archive.hdf5 import FILTERS, filter_pipeline

Buffer = bytes | bytearray | memoryview
Undo = Callable[[Buffer], np.ndarray | None]
"""Stored bytes of a chunk -> its values, flat and writable, or None where they are damaged."""
Decompress = Callable[[Buffer, int], Buffer | None]

_BLOCK = 8192
_WEIGHTS = np.arange(_BLOCK, 0, -1, dtype=np.float64)
_LZ4_HEADER = struct.Struct(">QI")  # bytes in all, bytes in a block
_LZ4_BLOCK = struct.Struct(">I")  # bytes that a block takes


def find_undo(dataset: h5py.Dataset) -> Undo | None:
    """Return what undoes the filters of a chunked dataset, or None where HDF5 has to do it.

    Known are gzip, lz4 or zstd, with or without shuffle before and fletcher32 after them; and
    whole numbers and floats that are stored as numpy holds them.
    """
    # What is not compressed HDF5 reads as fast, fletcher32 faster. And without any filter, its
    # direct read trusts a length in the index that h5py does not ask for: a damaged one was seen
    # to write beyond the buffer.
    dtype = dataset.dtype
    if dtype.kind not in "uif" or dataset.id.get_type() != h5py.h5t.py_create(dtype):
        return None
    pipeline = filter_pipeline(dataset)
    names = [FILTERS.get(code, "") for code, _ in pipeline]
    checked = names[-1:] == ["fletcher32"]
    shuffled = names[:1] == ["shuffle"]
    if shuffled and pipeline[0][1][:1] != (dtype.itemsize,):
        return None
    between = names[shuffled : len(names) - checked]
    if len(between) != 1 or between[0] not in _DECOMPRESS:
        return None
    decompress = _DECOMPRESS[between[0]]
    size = dtype.itemsize * int(np.prod(dataset.chunks))

    def undo(stored: Buffer) -> np.ndarray | None:
        data: Buffer | None = _checked(stored) if checked else stored
        data = None if data is None else decompress(data, size)
        if data is None or len(data) != size:
            return None
        raw = np.frombuffer(data, dtype=np.uint8)
        if shuffled and dtype.itemsize > 1:
            raw = raw.reshape(dtype.itemsize, -1).T.reshape(-1)  # copies
        values: np.ndarray = raw.view(dtype)
        return values if values.flags.writeable else values.copy()

    return undo


def fletcher32(data: Buffer) -> int:
    """Return the checksum that HDF5's filter of that name appends.

    Two sums over big-endian words of 16 bits, modulo 65535: of the words, and of the first sum
    after each word. In float64, where every product and every sum of a block is exact.
    """
    words = np.frombuffer(data, dtype=">u2", count=len(data) // 2)
    first = second = 0
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK].astype(np.float64)
        second += first * len(block) + int(block @ _WEIGHTS[-len(block) :])
        first += int(block.sum())
    if len(data) % 2:
        first += data[-1] << 8
        second += first
    return _fold(second) << 16 | _fold(first)


def _fold(total: int) -> int:
    """Return the sum modulo 65535; HDF5 writes 0 only for the sum that is 0."""
    return (total - 1) % 65535 + 1 if total else 0


def _checked(stored: Buffer) -> Buffer | None:
    if len(stored) < 4:
        return None
    data, found = stored[:-4], int.from_bytes(stored[-4:], "little")
    expected = fletcher32(data)
    # HDF5 1.6.2 wrote the bytes of each half swapped; HDF5 reads both to this day.
    swapped = (expected & 0x00FF00FF) << 8 | (expected >> 8) & 0x00FF00FF
    return data if found in (expected, swapped) else None


def _inflate(data: Buffer, size: int) -> Buffer | None:
    try:
        return deflate.zlib_decompress(data, size)
    except deflate.DeflateError:
        return None


def _decompress_zstd(data: Buffer, size: int) -> Buffer | None:
    try:
        # What the frame declares is allocated, whatever the maximum.
        if zstandard.get_frame_parameters(data).content_size != size:
            return None
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except zstandard.ZstdError:
        return None


def _decompress_lz4(data: Buffer, size: int) -> Buffer | None:
    if len(data) < _LZ4_HEADER.size:
        return None
    total, block = _LZ4_HEADER.unpack_from(data)
    if total != size or block == 0:
        return None
    parts: list[Buffer] = []
    at = _LZ4_HEADER.size
    for left in range(size, 0, -block):
        part, at = _lz4_block(data, at, min(block, left))
        if part is None:
            return None
        parts.append(part)
    return parts[0] if len(parts) == 1 else bytearray().join(parts)


def _lz4_block(data: Buffer, at: int, size: int) -> tuple[Buffer | None, int]:
    """Return the block that begins at a place, and where the next one does."""
    begin = at + _LZ4_BLOCK.size
    if begin > len(data):
        return None, at
    (taken,) = _LZ4_BLOCK.unpack_from(data, at)
    end = begin + taken
    if end > len(data):
        return None, at
    if taken == size:  # did not get any shorter, and was stored as it is
        return data[begin:end], end
    try:
        part: bytearray = lz4.block.decompress(
            data[begin:end], uncompressed_size=size, return_bytearray=True
        )
    except lz4.block.LZ4BlockError:
        return None, at
    return (part if len(part) == size else None), end


_DECOMPRESS: dict[str, Decompress] = {
    "gzip": _inflate,
    "lz4": _decompress_lz4,
    "zstd": _decompress_zstd,
}
