"""Live parity: a seeded sample of the archive's own rows through PyTorch beside the engine."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytodino.archive import Archive
from cytodino.engines.base import Engine, batched_logits
from cytodino.errors import CropError, ParityError
from cytodino.limits import Limits
from cytodino.parity import ParityReport, compare
from cytodino_batch.stream import Block

SAMPLE_SEED = 0
"""The same archive is always sampled at the same rows."""


@dataclass(frozen=True)
class LiveSample:
    """Rows of an archive and what PyTorch says of them."""

    rows: NDArray[np.int64]
    """(k,), ascending; damaged rows are left out."""
    crops: tuple[NDArray[np.uint8], ...]
    """One a row, uint8 (h, w, 3)."""
    logits: NDArray[np.float32]
    """(k, 21), PyTorch, FP32"""
    limits: Limits
    """What the engine may differ by."""


def draw_sample(
    archive: Archive, reference: Engine, *, size: int, batch_size: int, limits: Limits
) -> LiveSample:
    """Sample rows without replacement, all of them where there are fewer, and ask PyTorch.

    Raises
    ------
    ParityError
        If no row of the sample can be read.
    """
    generator = np.random.default_rng(SAMPLE_SEED)
    drawn = np.sort(generator.choice(archive.n, min(size, archive.n), replace=False))
    rows, crops = [], []
    for row in drawn.tolist():
        (crop,) = archive.read(row, row + 1)
        if not isinstance(crop, CropError):
            rows.append(row)
            crops.append(crop)
    if not crops:
        raise ParityError(
            f"none of the {len(drawn)} rows of the parity sample can be read",
            where=archive.path,
            mend="give a larger --parity-sample, or --parity golden",
        )
    logits = batched_logits(reference, crops, batch_size)
    return LiveSample(np.array(rows, dtype=np.int64), tuple(crops), logits, limits)


def require_agreement(sample: LiveSample, engine: Engine, *, batch_size: int) -> None:
    """Refuse an archive before its first crop if the engine strays on the sample.

    Raises
    ------
    ParityError
        With the first limit that was broken.
    """
    candidate = batched_logits(engine, sample.crops, batch_size)
    _require(compare(sample.logits, candidate, sample.limits), engine)


def judge_blocks(sample: LiveSample, blocks: list[Block], engine: Engine) -> ParityReport:
    """Hold the very logits that are about to be written against PyTorch's, on the sample.

    Raises
    ------
    ParityError
        With the first limit that was broken, or if the engine gave no finite logits for a row.
    """
    rows = np.concatenate([block.rows for block in blocks])
    logits = np.concatenate([block.logits for block in blocks])
    lost = np.setdiff1d(sample.rows, rows)
    if lost.size:
        raise ParityError(
            f"{engine.name} {engine.variant} gave nothing for row {lost[0]}, which PyTorch reads"
        )
    written = logits[np.searchsorted(rows, sample.rows)]
    report = compare(sample.logits, written, sample.limits)
    _require(report, engine)
    return report


def _require(report: ParityReport, engine: Engine) -> None:
    if report.verdict == "failed":
        raise ParityError(
            f"{engine.name} {engine.variant} strays from PyTorch "
            f"on {report.n} of the archive's cells: {report.failures[0]}",
            mend="choose another --engine or --variant, or export the run again",
        )
