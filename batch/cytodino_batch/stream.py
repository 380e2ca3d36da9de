"""Crops of one archive -> logits, in blocks of rows, in constant memory."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytodino.archive import Archive
from cytodino.engines.base import Engine, batched_logits
from cytodino.errors import CropError

BATCHES_A_BLOCK = 8
"""Batches in a block: with crops of a few sizes mixed, most batches of a block are still full."""

MIN_BLOCK_ROWS = 64
"""Rows a block holds at least; 64 crops of 250 x 250 x 3 are 12 MB."""

NOT_FINITE = "the engine's logits are not finite"


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that was not classified, and why."""

    row: int
    """0-based row in the archive."""
    reason: str


@dataclass(frozen=True)
class Block:
    """What came of the rows `start` to `stop` (not included) of an archive."""

    start: int
    stop: int
    rows: NDArray[np.int64]
    """(k,), the rows that were classified, ascending."""
    logits: NDArray[np.float32]
    """(k, 21), one line a row of `rows`."""
    quarantined: tuple[QuarantinedRow, ...]
    """The other rows, ascending."""


def rows_a_block(batch_size: int) -> int:
    """Rows of a block: a multiple of the batch size, so that blocks cut no batch."""
    return batch_size * max(BATCHES_A_BLOCK, -(-MIN_BLOCK_ROWS // batch_size))


def classify_rows(
    archive: Archive,
    engine: Engine,
    *,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Block]:
    """Classify every row of an archive, block by block, in row order.

    What a block comes to depends on its own rows and the batch size alone, so blocks can be done
    at different times or on different machines. While the engine works on a block, a thread
    reads the next one; two blocks of crops are in memory at most.

    Parameters
    ----------
    archive : Archive
        Open; read by one thread at a time.
    engine : Engine
    batch_size : int
        Crops of one size that are given to the engine together, at least 1.
    progress : callable, optional
        Called with the number of rows just done.

    Raises
    ------
    ArchiveError
        If the archive as a whole stops being readable.
    EngineError
        If the engine fails.
    """
    step = rows_a_block(batch_size)
    spans = [(start, min(start + step, archive.n)) for start in range(0, archive.n, step)]
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader") as reader:
        ahead = [reader.submit(archive.read, *spans[0])] if spans else []
        for following, (start, stop) in enumerate(spans, start=1):
            crops = ahead.pop().result()
            if following < len(spans):
                ahead.append(reader.submit(archive.read, *spans[following]))
            yield _classify_block(crops, engine, (start, stop), batch_size, progress)


def _classify_block(
    crops: Sequence[NDArray[np.uint8] | CropError],
    engine: Engine,
    span: tuple[int, int],
    batch_size: int,
    progress: Callable[[int], None] | None,
) -> Block:
    """Classify the crops of one block, one entry a row, those of one size together."""
    start, stop = span
    reasons = {at: crop.reason for at, crop in enumerate(crops) if isinstance(crop, CropError)}
    places = [at for at in range(len(crops)) if at not in reasons]
    whole = [crop for crop in crops if not isinstance(crop, CropError)]
    logits = batched_logits(engine, whole, batch_size, progress)  # (places, 21)
    finite = np.isfinite(logits).all(axis=1)
    reasons |= {places[at]: NOT_FINITE for at in np.flatnonzero(~finite)}
    if progress is not None:
        progress(len(crops) - len(places))
    return Block(
        start=start,
        stop=stop,
        rows=np.array(places, dtype=np.int64)[finite] + start,
        logits=logits[finite],
        quarantined=tuple(QuarantinedRow(start + at, reasons[at]) for at in sorted(reasons)),
    )
