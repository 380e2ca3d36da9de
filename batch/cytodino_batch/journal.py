"""What has been done of an archive, appended block by block, so that nothing is done twice.

One file: a line that names the format, then records. A record is its kind, the length of its
content, a crc32 over all three, and the content. The first is the header, which says what the
blocks belong to; among the others are the archive's hash, as soon as it is known, and, in live
parity, PyTorch's answers on the sample; the rest are blocks in row order. Whatever a crash leaves
behind a whole record is cut off when the file is opened again.

A record is handed to the system when it is appended, and forced to the disk within about a second
(`SYNC_SECONDS`) and when the journal is closed: a process that is killed loses the block in hand,
a power cut a second's blocks more.
"""

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cytodino.errors import InputError
from cytodino_batch.header import Header
from cytodino_batch.outcome import Tally
from cytodino_batch.records import (
    BLOCK,
    DIGEST,
    FRAME_BYTES,
    HEADER,
    MAGIC,
    SAMPLE,
    Digest,
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

Record = Block | Sample | Digest

MAX_WAITING = 2
"""Blocks that wait for the disk, at most."""


@dataclass(frozen=True)
class Contents:
    """What a journal holds, as far as it is whole; its blocks are read when they are wanted."""

    path: Path
    header: Header
    """With the archive's hash; without, where the journal ends before it."""
    sample: Sample | None
    reached: int
    """The first row that is still to be done."""
    tally: Tally
    """Of the rows that are done."""
    size: int
    """Bytes from the start of the file to the end of the last whole record."""
    dropped: int
    """Bytes behind them."""

    @property
    def complete(self) -> bool:
        """Tell whether every row of the header's is done."""
        return self.reached == self.header.stop and bool(self.header.archive.sha256)

    def blocks(self) -> Iterator[Block]:
        """Read the blocks, without a gap from the header's first row on, one at a time.

        Raises
        ------
        InputError
            If they are no longer what they were when the journal was read.
        OSError
            If the disk refuses.
        """
        reached = self.header.start
        with self.path.open("rb") as file:
            for kind, content in whole_records(file, self.size):
                if kind == BLOCK and reached < self.reached:
                    block = decode_block(content)
                    reached = block.stop
                    yield block
        if reached != self.reached:
            raise InputError(
                f"was damaged while it was read, at row {reached}",
                where=self.path,
                mend="give the same command again: what is whole is kept",
            )


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
    with file:
        total = os.fstat(file.fileno()).st_size
        records = whole_records(file, total)
        kind, content = next(records, (b"", b""))
        header = Header.parse(content) if kind == HEADER else None
        if header is None:
            return None
        return _read_records(
            path, header, records, (len(MAGIC) + FRAME_BYTES + len(content), total)
        )


def _read_records(
    path: Path, header: Header, records: Iterator[tuple[bytes, bytes]], sizes: tuple[int, int]
) -> Contents:
    end, total = sizes
    sample, reached, classified, quarantined = None, header.start, 0, 0
    for kind, content in records:
        if kind == DIGEST:
            header = header.with_digest(content.decode())
        elif kind == SAMPLE:
            sample = decode_sample(content)
        else:
            block = decode_block(content)
            if block.start != reached:
                break
            reached = block.stop
            classified += len(block.rows)
            quarantined += len(block.quarantined)
        end += FRAME_BYTES + len(content)
    tally = Tally(classified, quarantined)
    return Contents(path, header, sample, reached, tally, end, total - end)


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

    def append(self, record: Record) -> None:
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

    def _write_record(self, record: Record) -> None:
        if self._refused:  # a block behind a missing one would never be read
            return
        if isinstance(record, Block):
            self._append(frame(BLOCK, encode_block(record)))
        elif isinstance(record, Sample):
            self._append(frame(SAMPLE, encode_sample(record)))
        else:
            self._append(frame(DIGEST, record.sha256.encode()))
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
