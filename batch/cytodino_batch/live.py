"""Live parity: a seeded sample of the archive's own rows through PyTorch beside the engine."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytodino.archive import Archive
from cytodino.engines.base import Engine, EngineDescription, batched_logits
from cytodino.errors import CropError, ParityError
from cytodino.limits import Limits
from cytodino.parity import ParityReport, compare
from cytodino.taxonomy import N_CLASSES
from cytodino_batch.records import Sample
from cytodino_batch.stream import Span

SAMPLE_SEED = 0
"""The same archive is always sampled at the same rows."""


def draw_sample(
    archive: Archive, reference: Engine, *, size: int, within: Span
) -> tuple[Sample, tuple[NDArray[np.uint8], ...]]:
    """Sample rows without replacement, all of them where there are fewer, and ask PyTorch.

    Rows are drawn from the whole archive, and those `within` are taken: shards share out one
    sample. PyTorch is asked one crop at a time, so that its answers do not depend on the share.

    Returns
    -------
    Sample, tuple of uint8 (h, w, 3)
        What PyTorch says, and the crops; damaged rows are left out.
    """
    generator = np.random.default_rng(SAMPLE_SEED)
    drawn = np.sort(generator.choice(archive.n, min(size, archive.n), replace=False))
    start, stop = within
    rows, crops = [], []
    for row in drawn[(drawn >= start) & (drawn < stop)].tolist():
        (crop,) = archive.read(row, row + 1)
        if not isinstance(crop, CropError):
            rows.append(row)
            crops.append(crop)
    logits = batched_logits(reference, crops, batch_size=1)
    return Sample(np.array(rows, dtype=np.int64), logits), tuple(crops)


def require_agreement(
    sample: Sample,
    crops: Sequence[NDArray[np.uint8]],
    engine: Engine,
    *,
    batch_size: int,
    limits: Limits,
) -> None:
    """Refuse an archive before its first crop if the engine strays on the sample.

    Raises
    ------
    ParityError
        With the first limit that was broken.
    """
    if crops:
        candidate = batched_logits(engine, crops, batch_size)
        _require(compare(sample.logits, candidate, limits), engine)


def judge_rows(
    samples: Sequence[Sample],
    rows: NDArray[np.int64],
    logits: NDArray[np.float32],
    limits: Limits,
    engine: EngineDescription,
) -> ParityReport:
    """Hold the very logits that are about to be written against PyTorch's, on the sample.

    Parameters
    ----------
    samples : sequence of Sample
        Of one archive: one, or one a shard.
    rows : int64, (n,)
        All that were classified, ascending.
    logits : float32, (n, 21)
    limits : Limits
    engine : EngineDescription
        What gave the logits.

    Raises
    ------
    ParityError
        With the first limit that was broken, if no row of the sample could be read, or if the
        engine gave no finite logits for one.
    """
    sampled = np.concatenate([sample.rows for sample in samples])
    if not sampled.size:
        raise ParityError(
            "no row of the parity sample can be read",
            mend="give a larger --parity-sample, or --parity golden",
        )
    lost = np.setdiff1d(sampled, rows)
    if lost.size:
        raise ParityError(
            f"{engine.engine} {engine.variant} gave nothing for row {lost[0]}, which PyTorch reads"
        )
    reference = np.concatenate([sample.logits for sample in samples]).reshape(-1, N_CLASSES)
    report = compare(reference, logits[np.searchsorted(rows, sampled)], limits)
    _require(report, engine)
    return report


def _require(report: ParityReport, engine: Engine | EngineDescription) -> None:
    name = engine.engine if isinstance(engine, EngineDescription) else engine.name
    if report.verdict == "failed":
        raise ParityError(
            f"{name} {engine.variant} strays from PyTorch "
            f"on {report.n} of the archive's cells: {report.failures[0]}",
            mend="choose another --engine or --variant, or export the run again",
        )
