"""From the journals of an archive, one or one a shard, to its results."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cytodino.errors import InputError
from cytodino_batch.classification import Classification
from cytodino_batch.extras import extra_files
from cytodino_batch.header import Header
from cytodino_batch.journal import Contents
from cytodino_batch.live import judge_rows
from cytodino_batch.provenance import build_summary
from cytodino_batch.results import remove_partial, write_results
from cytodino_batch.summary import Comparison, RunSection, Summary


def finish_archive(
    folder: Path,
    header: Header,
    parts: Sequence[Contents],
    describe: Callable[[int], RunSection],
    *,
    archive: Path,
) -> Summary:
    """Write the results of an archive whose every row is done.

    Parameters
    ----------
    folder : Path
    header : Header
        What the results belong to.
    parts : sequence of Contents
        In row order; together they hold every row.
    describe : function
        Takes the number of classified crops; returns the section `run`.
    archive : Path
        Where it lies, for files that show its crops.

    Raises
    ------
    InputError
        If the parts do not hold every row.
    MissingExtraError
        If the library of a file that was asked for is not installed; nothing is written then.
    ParityError
        If the engine strays from PyTorch on the sample; nothing is written then.
    OSError
        If the disk refuses; nothing is written then.
    """
    _require_all_rows(folder, header, parts)
    result = Classification.from_blocks(
        (block for part in parts for block in part.blocks()),
        rows=header.archive.rows,
        classified=sum(part.tally.classified for part in parts),
        review_below=header.provenance.review_below,
        temperature=header.provenance.confidence.temperature,
    )
    parity, provenance = header.parity, header.provenance
    if header.live_limits is not None:
        samples = [part.sample for part in parts if part.sample is not None]
        report = judge_rows(
            samples, result.rows, result.logits, header.live_limits, provenance.engine
        )
        parity = parity.with_live(Comparison.of(report))
    summary = build_summary(
        header.archive,
        result,
        parity=parity,
        provenance=provenance,
        run=describe(len(result.rows)),
        calibration=header.calibration,
    )
    remove_partial(folder)
    write_results(
        folder,
        result,
        attributes={
            "archive_sha256": header.archive.sha256,
            "bundle_sha256": provenance.bundle_sha256,
            "engine": provenance.engine.engine,
            "variant": provenance.engine.variant,
            "device": provenance.engine.device,
            "confidence": provenance.confidence.sentence(),
        },
        summarise=lambda files: summary.with_files(files).as_json(),
        extras=extra_files(header, archive),
    )
    return summary


def _require_all_rows(folder: Path, header: Header, parts: Sequence[Contents]) -> None:
    reached = 0
    for part in parts:
        if part.header.start == reached:
            reached = part.reached
    if reached != header.archive.rows:
        raise InputError(
            f"rows from {reached} on are missing, of {header.archive.rows}",
            where=folder,
            mend="give the same command again: what is whole is kept",
        )
