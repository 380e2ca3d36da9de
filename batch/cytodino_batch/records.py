"""The records of a journal as bytes, each with its checksum."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cytodino.taxonomy import N_CLASSES
from cytodino.texts import Texts
from cytodino_batch.stream import Block, QuarantinedRow

MAGIC = b"cytodino journal 1\n"

HEADER, DIGEST, SAMPLE, BLOCK = b"head", b"dgst", b"samp", b"blck"
"""Kinds of records."""

_FRAME = struct.Struct("<4sII")
_KIND_AND_LENGTH = struct.Struct("<4sI")
_LENGTH = struct.Struct("<I")

FRAME_BYTES = _FRAME.size
"""What a record is longer than its content."""


@dataclass(frozen=True)
class Digest:
    """The archive's hash, which is there some time after the header was written."""

    sha256: str
    """In hex."""


@dataclass(frozen=True)
class Sample:
    """Rows of live parity's sample and what PyTorch says of them."""

    rows: NDArray[np.int64]
    """(k,), ascending; damaged rows are left out."""
    logits: NDArray[np.float32]
    """(k, 21), PyTorch, FP32"""


def frame(kind: bytes, content: bytes) -> bytes:
    """Put a kind, the length and the checksum before the content of a record."""
    checksum = crc32(content, crc32(_KIND_AND_LENGTH.pack(kind, len(content))))
    return _FRAME.pack(kind, len(content), checksum) + content


def whole_records(file: BinaryIO, total: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each record up to the first one that is not whole."""
    if file.read(len(MAGIC)) != MAGIC:
        return
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        kind, length, checksum = _FRAME.unpack(head)
        if length > total - file.tell():
            return
        content = file.read(length)
        if crc32(content, crc32(_KIND_AND_LENGTH.pack(kind, length))) != checksum:
            return
        yield kind, content


def encode_block(block: Block) -> bytes:
    """Give a block as the content of a record."""
    facts = {
        "start": block.start,
        "stop": block.stop,
        "quarantined": [(entry.row, entry.reason) for entry in block.quarantined],
        "ids": list(block.ids),
        "coords": None if block.coords is None else block.coords.dtype.str,
    }
    coords = b"" if block.coords is None else block.coords.tobytes()
    return _join(facts, block.logits.astype("<f4").tobytes() + coords)


def decode_block(content: bytes) -> Block:
    """Read what `encode_block` gave."""
    facts, arrays = _split(content)
    start, stop = facts["start"], facts["stop"]
    quarantined = tuple(QuarantinedRow(row, reason) for row, reason in facts["quarantined"])
    rows = np.setdiff1d(
        np.arange(start, stop), np.array([entry.row for entry in quarantined], dtype=np.int64)
    )
    # Copies: a view would keep the whole record in memory, ids and all.
    logits = np.frombuffer(arrays, "<f4", len(rows) * N_CLASSES).reshape(-1, N_CLASSES).copy()
    coords = None
    if facts["coords"] is not None:
        coords = np.frombuffer(arrays, facts["coords"], offset=logits.nbytes).reshape(-1, 2).copy()
    return Block(start, stop, rows, logits, quarantined, Texts([facts["ids"]]), coords)


def encode_sample(sample: Sample) -> bytes:
    """Give a sample as the content of a record."""
    return _join({"rows": sample.rows.tolist()}, sample.logits.astype("<f4").tobytes())


def decode_sample(content: bytes) -> Sample:
    """Read what `encode_sample` gave."""
    facts, arrays = _split(content)
    logits = np.frombuffer(arrays, "<f4").reshape(-1, N_CLASSES)
    return Sample(np.array(facts["rows"], dtype=np.int64), logits)


def _join(facts: dict[str, object], arrays: bytes) -> bytes:
    text = json.dumps(facts, separators=(",", ":")).encode()
    return _LENGTH.pack(len(text)) + text + arrays


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    (length,) = _LENGTH.unpack_from(content)
    facts = json.loads(content[_LENGTH.size : _LENGTH.size + length])
    return facts, memoryview(content)[_LENGTH.size + length :]
