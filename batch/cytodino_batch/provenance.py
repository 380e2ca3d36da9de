"""From a run's parts to its `summary.json`: what was read, checked, and computed with."""

import platform
from datetime import UTC, datetime

from cytodino.archive import Archive
from cytodino.calibration.file import ModelCalibration
from cytodino.machine import installed_versions
from cytodino_batch.classification import Classification
from cytodino_batch.confidence import choose_rule, judge_confidence
from cytodino_batch.differential import count_differential
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.plan import PlannedArchive
from cytodino_batch.review import list_review
from cytodino_batch.session import Session
from cytodino_batch.stream import rows_a_block
from cytodino_batch.summary import (
    ArchiveSection,
    ParitySection,
    Provenance,
    RunSection,
    Summary,
    count_rows,
)


def describe_archive(planned: PlannedArchive, archive: Archive, sha256: str) -> ArchiveSection:
    """Describe an open archive; its hash is empty as long as it is not known."""
    return ArchiveSection(
        name=planned.name,
        sha256=sha256,
        layout=archive.layout,
        dataset=archive.dataset,
        rows=archive.n,
        slide=archive.slide,
        channel_order=archive.channel_order,
        checksums=archive.checksums is not None,
        notes=archive.notes,
    )


def build_summary(
    archive: ArchiveSection,
    result: Classification,
    *,
    parity: ParitySection,
    provenance: Provenance,
    run: RunSection,
    calibration: ModelCalibration | None = None,
) -> Summary:
    """Put the summary of one archive together; the hashes of its files are added on writing.

    Everything that a session knows comes in as a section, so that a journal can keep it: what is
    finished on another day or merged from shards is summed up by the same function.
    """
    return Summary(
        archive=archive,
        counts=count_rows(result),
        differential=count_differential(result.ranking[:, 0], unclassified=len(result.quarantined)),
        parity=parity,
        review=list_review(result),
        confidence=judge_confidence(result, provenance.confidence, calibration),
        provenance=provenance,
        run=run,
    )


def describe_parity(session: Session, options: ClassifyOptions) -> ParitySection:
    """Say what the session's engine was held against before the first crop."""
    return ParitySection(mode=options.parity, statement=session.statement, golden=session.golden)


def describe_provenance(
    session: Session, options: ClassifyOptions, *, batch_size: int
) -> Provenance:
    """Say what an archive's results are made with.

    Parameters
    ----------
    session : Session
    options : ClassifyOptions
    batch_size : int
        The one that this archive is classified with: a run that goes on keeps its own.
    """
    rule, review_below = choose_rule(session.calibration, options.review_below)
    return Provenance(
        bundle_sha256=session.bundle.sha256,
        engine=session.engine.describe(),
        batch_size=batch_size,
        batch_size_chosen="auto" if options.batch_size is None else "user",
        rows_a_block=rows_a_block(batch_size),
        tuned=session.tuned.sentence() if session.tuned else None,
        read=options.read.given(),
        review_below=review_below,
        confidence=rule,
        parity_sample=options.parity_sample if options.parity == "live" else None,
        reference_sha256=session.reference_sha256,
        versions=installed_versions(),
    )


def describe_run(
    *,
    started: datetime,
    classified: int,
    archive: str,
    bundle: str,
    resumed_rows: int = 0,
    shards: int | None = None,
) -> RunSection:
    """Say when and where results were made.

    Parameters
    ----------
    started : datetime
    classified : int
        Crops that were classified since then.
    archive, bundle : str
        Where they lay.
    resumed_rows : int
        Rows that had been done before.
    shards : int, optional
        Parts that were merged.
    """
    finished = datetime.now(UTC)
    seconds = max((finished - started).total_seconds(), 1e-6)
    return RunSection(
        started=started,
        finished=finished,
        seconds=round(seconds, 3),
        crops_per_second=round(classified / seconds, 2),
        resumed_rows=resumed_rows,
        shards=shards,
        host=platform.node(),
        archive=archive,
        bundle=bundle,
    )
