"""What the person at the terminal reads: the plan, the differential, the closing table."""

from collections.abc import Iterator, Sequence

from cytodino.archive import open_archive
from cytodino.errors import ArchiveError
from cytodino_batch.plan import PREDICTIONS_H5, SUMMARY_NAME, PlannedArchive
from cytodino_batch.results import PREDICTIONS_CSV, QUARANTINE_CSV
from cytodino_batch.runner import Outcome
from cytodino_batch.session import Session
from cytodino_batch.summary import Summary


def session_lines(session: Session) -> Iterator[str]:
    """Say what computes, and what it was held against."""
    found = session.engine.describe()
    yield (
        f"{found.engine} {found.version} on {found.device} ({found.provider}), "
        f"variant {found.variant}, batches of {session.batch_size}"
    )
    for warning in found.warnings:
        yield f"warning: {warning}"
    yield session.statement


def plan_lines(planned: Sequence[PlannedArchive]) -> Iterator[tuple[str, bool]]:
    """Open each archive and say what would be done with it; nothing is written.

    Yields
    ------
    str, bool
        The line, and whether the archive can be opened.
    """
    for archive in planned:
        try:
            with open_archive(archive.path) as opened:
                line = f"{archive.path}: {opened.n} crops, {opened.layout} -> {archive.folder}"
        except ArchiveError as error:
            yield " ".join(str(error).split()), False
        else:
            yield line, True


def differential_lines(summary: Summary) -> Iterator[str]:
    """Show counts and percentages by class within lineage, those that occur."""
    counts = summary.counts
    yield f"{counts.classified} of {counts.rows} crops classified, {counts.quarantined} quarantined"
    for lineage in summary.lineages:
        if lineage.count:
            yield _count_line(lineage.lineage, lineage.count, lineage.percent)
            for entry in summary.classes:
                if entry.lineage == lineage.lineage and entry.count:
                    mark = "  critical" if entry.risk == "critical" else ""
                    name = f"  {entry.code} {entry.name}"
                    yield _count_line(name, entry.count, entry.percent) + mark
    yield (
        f"{counts.critical} of a critical class; {counts.review} for review: critical, or of a "
        f"confidence below {summary.provenance.review_below:g}"
    )


def result_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Give the differential and files of one archive, or the folders of several."""
    done = [(found, found.summary) for found in outcomes if found.summary is not None]
    if len(outcomes) > 1:
        yield from (str(found.planned.folder) for found, _ in done)
        return
    for found, summary in done:
        yield from differential_lines(summary)
        yield f"parity: {summary.parity.statement}"
        for name in (PREDICTIONS_CSV, PREDICTIONS_H5, QUARANTINE_CSV, SUMMARY_NAME):
            yield str(found.planned.folder / name)


def closing_table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """List every archive with what became of it, and the reason where it failed."""
    width = max(len("archive"), *(len(found.planned.name) for found in outcomes))
    yield f"{'archive':{width}}  status   classified  quarantined  reason"
    for found in outcomes:
        counts = found.summary.counts if found.summary else None
        numbers = (counts.classified, counts.quarantined) if counts else ("-", "-")
        yield (
            f"{found.planned.name:{width}}  {found.status:7}  {numbers[0]:>10}  "
            f"{numbers[1]:>11}  {found.reason}"
        ).rstrip()


def _count_line(name: str, count: int, percent: float) -> str:
    return f"{name:30} {count:7d} {percent:6.1f} %"
