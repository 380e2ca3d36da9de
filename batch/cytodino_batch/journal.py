"""What has been done of an archive, appended block by block, so that nothing is done twice.

One file: a line that names the format, then records. A record is its kind, the length of its
content, a crc32 over all three, and the content. The first is the header, which says what the
blocks belong to; the second, in live parity, PyTorch's answers on the sample; the rest are blocks
in row order. Whatever a crash leaves behind a whole record is cut off when the file is opened
again.

A record is handed to the system when it is appended, and forced to the disk within about a second
(`SYNC_SECONDS`) and when the journal is closed: a process that is killed loses the block in hand,
a power cut a second's blocks more.
"""

import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cytodino_batch.header import Header
from cytodino_batch.records import (
    BLOCK,
    FRAME_BYTES,
    HEADER,
    MAGIC,
    SAMPLE,
    Sample,
    decode_block,
    decode_sample,
    encode_block,
    encode_sample,
    frame,
    whole_records,
)
from cytodino_batch.stream import Block

SYNC_SECONDS = 1.0
"""A disk may take tens of milliseconds to confirm; a second's work is cheap to do again."""

MAX_WAITING = 2
"""Blocks that wait for the disk, at most."""


@dataclass(frozen=True)
class Contents:
    """What a journal holds, as far as it is whole."""

    header: Header
    sample: Sample | None
    blocks: tuple[Block, ...]
    """Without a gap, from the header's first row on."""
    size: int
    """Bytes from the start of the file to the end of the last whole record."""
    dropped: int
    """Bytes behind them."""

    @property
    def reached(self) -> int:
        """The first row that is still to be done."""
        return self.blocks[-1].stop if self.blocks else self.header.start

    @property
    def complete(self) -> bool:
        """Tell whether every row of the header's is done."""
        return self.reached == self.header.stop


def read_journal(path: Path) -> Contents | None:
    """Read a journal up to its first damaged record.

    Returns
    -------
    Contents, or None where there is no file, it is no journal, or not even its header is whole.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    header, sample = None, None
    blocks: list[Block] = []
    with file:
        total = os.fstat(file.fileno()).st_size
        end = len(MAGIC)
        for kind, content in whole_records(file, total):
            if header is None:
                header = Header.parse(content) if kind == HEADER else None
                if header is None:
                    return None
            elif kind == SAMPLE:
                sample = decode_sample(content)
            else:
                block = decode_block(content)
                if block.start != (blocks[-1].stop if blocks else header.start):
                    break
                blocks.append(block)
            end += FRAME_BYTES + len(content)
    if header is None:
        return None
    return Contents(header, sample, tuple(blocks), end, total - end)


def read_header(path: Path) -> Header | None:
    """Read a journal's header alone; None where `read_journal` finds none.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    with path.open("rb") as file:
        for kind, content in whole_records(file, os.fstat(file.fileno()).st_size):
            return Header.parse(content) if kind == HEADER else None
    return None


class Journal:
    """A journal that is open for appending; use it as a context manager.

    Parameters
    ----------
    path : Path
    size : int
        Where the next record goes; what is behind it is cut off.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        os.ftruncate(self._file, size)
        os.lseek(self._file, size, os.SEEK_SET)
        self._size = size
        self._refused = False
        self._synced = time.monotonic()
        self._writer = ThreadPoolExecutor(1, "journal")
        self._waiting: deque[Future[None]] = deque()

    @classmethod
    def begin(cls, path: Path, header: Header) -> Self:
        """Begin a journal, in the place of whatever is there.

        Raises
        ------
        OSError
            If the disk refuses.
        """
        journal = cls(path, 0)
        try:
            _write(journal._file, MAGIC)
            journal._size = len(MAGIC)
            journal._append(frame(HEADER, header.text()))
            journal._sync()
            sync_folder(path.parent)
        except BaseException:
            journal.close()
            raise
        return journal

    def append(self, record: Block | Sample) -> None:
        """Hand a record to the writing thread; waits while `MAX_WAITING` are not yet written.

        Raises
        ------
        OSError
            If the disk refused an earlier one; the journal is whole without it.
        """
        while len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._writer.submit(self._write_record, record))

    def flush(self) -> None:
        """Wait until every block is on the disk.

        Raises
        ------
        OSError
            If the disk refused one.
        """
        while self._waiting:
            self._waiting.popleft().result()
        self._sync()

    def close(self) -> None:
        """Write what waits, as far as the disk takes it, and close the file."""
        self._writer.shutdown()
        with suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write_record(self, record: Block | Sample) -> None:
        if self._refused:  # a block behind a missing one would never be read
            return
        if isinstance(record, Sample):
            self._append(frame(SAMPLE, encode_sample(record)))
        else:
            self._append(frame(BLOCK, encode_block(record)))
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def _append(self, record: bytes) -> None:
        try:
            _write(self._file, record)
        except OSError:
            self._refused = True
            # Nothing torn stays behind: what is appended by a later run follows a whole record.
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise
        self._size += len(record)

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced = time.monotonic()


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk: without it, a power cut can undo a rename."""
    if os.name == "nt":  # folders cannot be opened there, and NTFS keeps a log of its entries
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
