"""Crops of one archive -> logits, in blocks of rows, in constant memory."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytodino.archive import Archive
from cytodino.engines.base import Engine, gather_batches
from cytodino.errors import CropError
from cytodino.taxonomy import N_CLASSES

BATCHES_A_BLOCK = 8
"""Batches in a block: with crops of a few sizes mixed, most batches of a block are still full."""

MIN_BLOCK_ROWS = 64
"""Rows a block holds at least; 64 crops of 250 x 250 x 3 are 12 MB."""

MAX_BLOCK_ROWS = 512
"""Rows a block holds at most, unless one batch is larger; 96 MB of such crops."""

NO_CROP = np.empty((0, 0, 3), dtype=np.uint8)

NOT_FINITE = "the engine's logits are not finite"

Span = tuple[int, int]
"""First row and the one after the last."""


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
    ids: Sequence[str] = ()
    """One a row from `start` to `stop`, classified or not; empty where nobody asked."""
    coords: NDArray[np.generic] | None = None
    """(stop - start, 2), x and y of the same rows; None where the archive has none."""


@dataclass(frozen=True)
class _Prepared:
    """Crops of one block, read and put into batches."""

    span: Span
    batches: list[tuple[list[int], NDArray[np.uint8]]]
    """Positions in the block, and uint8 (k, h, w, 3)."""
    reasons: dict[int, str]
    """Why a position has no crop."""


def rows_a_block(batch_size: int) -> int:
    """Rows of a block: a multiple of the batch size, so that blocks cut no batch."""
    least = -(-MIN_BLOCK_ROWS // batch_size)
    most = max(1, MAX_BLOCK_ROWS // batch_size)
    return batch_size * max(least, min(BATCHES_A_BLOCK, most))


def block_spans(rows: int, batch_size: int, within: Span | None = None) -> list[Span]:
    """Cut an archive into blocks, counted from its first row.

    Parameters
    ----------
    rows : int
        Of the whole archive.
    batch_size : int
    within : span, optional
        Only blocks that begin in these rows; the first one has to begin a block.
    """
    first, last = within or (0, rows)
    step = rows_a_block(batch_size)
    return [(start, min(start + step, rows)) for start in range(first, last, step)]


def classify_rows(
    archive: Archive,
    engine: Engine,
    *,
    batch_size: int,
    within: Span | None = None,
    progress: Callable[[int], None] | None = None,
) -> Generator[Block, None, None]:
    """Classify rows of an archive, block by block, in row order.

    What a block comes to depends on its own rows and the batch size alone, so blocks can be done
    at different times or on different machines. While the engine works on a block, a thread
    reads the next one and puts it into batches; two blocks of crops are in memory at most.

    Parameters
    ----------
    archive : Archive
        Open; read by one thread at a time.
    engine : Engine
    batch_size : int
        Crops of one size that are given to the engine together, at least 1.
    within : span, optional
        Only the blocks of these rows (see `block_spans`); by default all.
    progress : callable, optional
        Called with the number of rows just done.

    Raises
    ------
    ArchiveError
        If the archive as a whole stops being readable.
    EngineError
        If the engine fails.
    """
    spans = block_spans(archive.n, batch_size, within)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader") as reader:
        ahead = [reader.submit(_prepare, archive, spans[0], batch_size)] if spans else []
        for following in range(1, len(spans) + 1):
            prepared = ahead.pop().result()
            if following < len(spans):
                ahead.append(reader.submit(_prepare, archive, spans[following], batch_size))
            block = _classify(prepared, engine, progress)
            del prepared  # its crops, before the next ones are waited for
            yield block


def _prepare(archive: Archive, span: Span, batch_size: int) -> _Prepared:
    """Read the crops of one block and put those of one size together."""
    places: list[int] = []
    crops: list[NDArray[np.uint8]] = []
    reasons: dict[int, str] = {}
    for at, crop in enumerate(archive.read(*span)):
        if isinstance(crop, CropError):
            reasons[at] = crop.reason
        else:
            places.append(at)
            crops.append(crop)
    batches = []
    for indices, batch in gather_batches(crops, batch_size):
        batches.append(([places[index] for index in indices], batch))
        for index in indices:
            crops[index] = NO_CROP  # copied, or kept by the batch
    return _Prepared(span, batches, reasons)


def _classify(prepared: _Prepared, engine: Engine, progress: Callable[[int], None] | None) -> Block:
    (start, stop), reasons = prepared.span, dict(prepared.reasons)
    logits = np.empty((stop - start, N_CLASSES), dtype=np.float32)
    for places, batch in prepared.batches:
        answers = engine.logits(batch)  # (k, 21)
        logits[places] = answers
        for at in np.flatnonzero(~np.isfinite(answers).all(axis=1)):
            reasons[places[at]] = NOT_FINITE
        if progress is not None:
            progress(len(places))
    if progress is not None:
        progress(len(prepared.reasons))
    kept = np.array([at for at in range(stop - start) if at not in reasons], dtype=np.int64)
    return Block(
        start=start,
        stop=stop,
        rows=kept + start,
        logits=logits[kept],
        quarantined=tuple(QuarantinedRow(start + at, reasons[at]) for at in sorted(reasons)),
    )
