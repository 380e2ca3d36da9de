"""From a run's parts to its `summary.json`: what was read, checked, and computed with."""

import platform
from datetime import UTC, datetime

from cytodino.archive import Archive
from cytodino.machine import installed_versions
from cytodino.paths import hash_file
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.plan import PlannedArchive
from cytodino_batch.results import Classification
from cytodino_batch.session import Session
from cytodino_batch.stream import rows_a_block
from cytodino_batch.summary import (
    ArchiveSection,
    Comparison,
    ParitySection,
    Provenance,
    RunSection,
    Summary,
    count_classes,
    count_lineages,
    count_rows,
)


def describe_archive(planned: PlannedArchive, archive: Archive) -> ArchiveSection:
    """Describe an open archive; reads the whole file once for its sha256."""
    return ArchiveSection(
        name=planned.name,
        sha256=hash_file(planned.path),
        layout=archive.layout,
        rows=archive.n,
        slide=archive.slide,
        channel_order=archive.channel_order,
    )


def build_summary(
    planned: PlannedArchive,
    archive: ArchiveSection,
    result: Classification,
    live: Comparison | None,
    *,
    session: Session,
    options: ClassifyOptions,
    started: datetime,
) -> Summary:
    """Put the summary of one archive together; the hashes of its files are added on writing."""
    classes = count_classes(result)
    return Summary(
        archive=archive,
        counts=count_rows(result),
        classes=classes,
        lineages=count_lineages(classes),
        parity=_describe_parity(session, options, live),
        provenance=_describe_provenance(session, options),
        run=_describe_run(planned, session, started, len(result.rows)),
    )


def _describe_parity(
    session: Session, options: ClassifyOptions, live: Comparison | None
) -> ParitySection:
    statement = session.statement
    if live is not None:
        statement += f"; live check {live.sentence()}"
    return ParitySection(mode=options.parity, statement=statement, golden=session.golden, live=live)


def _describe_provenance(session: Session, options: ClassifyOptions) -> Provenance:
    return Provenance(
        bundle_sha256=session.bundle.sha256,
        engine=session.engine.describe(),
        batch_size=session.batch_size,
        batch_size_chosen="auto" if options.batch_size is None else "user",
        rows_a_block=rows_a_block(session.batch_size),
        review_below=options.review_below,
        parity_sample=options.parity_sample if options.parity == "live" else None,
        reference_sha256=session.reference_sha256,
        versions=installed_versions(),
    )


def _describe_run(
    planned: PlannedArchive, session: Session, started: datetime, classified: int
) -> RunSection:
    finished = datetime.now(UTC)
    seconds = max((finished - started).total_seconds(), 1e-6)
    return RunSection(
        started=started,
        finished=finished,
        seconds=round(seconds, 3),
        crops_per_second=round(classified / seconds, 2),
        host=platform.node(),
        archive=str(planned.path),
        bundle=str(session.bundle.path),
    )
