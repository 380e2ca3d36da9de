"""Archives -> results folders, one after the other; a bad one does not stop the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from cytodino.archive import Archive, open_archive
from cytodino.console import message
from cytodino.errors import CytoDinoError, ParityError
from cytodino_batch.live import draw_sample, judge_blocks, require_agreement
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.plan import PlannedArchive
from cytodino_batch.progress import show_progress
from cytodino_batch.provenance import (
    build_summary,
    describe_archive,
    describe_parity,
    describe_provenance,
    describe_run,
)
from cytodino_batch.results import Classification, write_results
from cytodino_batch.session import Session
from cytodino_batch.stream import classify_rows
from cytodino_batch.summary import Comparison, Summary

DONE, FAILED_SOME, PARITY_REFUSED = 0, 3, 4


@dataclass(frozen=True)
class Outcome:
    """What became of one archive."""

    planned: PlannedArchive
    status: Literal["done", "failed", "refused"]
    """refused: the engine strayed from PyTorch on this archive's cells."""
    summary: Summary | None = None
    """Of an archive that is done."""
    reason: str = ""
    """Of one that is not."""

    @property
    def exit_code(self) -> int:
        """0, 3 where the archive or some of its rows failed, 4 where parity refused it."""
        if self.status == "refused":
            return PARITY_REFUSED
        if self.summary is None or self.summary.counts.quarantined:
            return FAILED_SOME
        return DONE

    def sentence(self) -> str:
        """Say what became of it in one line."""
        if self.summary is None:
            return f"{self.planned.name}: {self.status}: {self.reason}"
        counts, run = self.summary.counts, self.summary.run
        lost = f", {counts.quarantined} quarantined" if counts.quarantined else ""
        return (
            f"{self.planned.name}: {counts.classified} of {counts.rows} crops classified{lost} "
            f"in {run.seconds:.1f} s ({run.crops_per_second:.1f} crops/s)"
        )


def classify_archives(
    planned: Sequence[PlannedArchive], session: Session, options: ClassifyOptions
) -> tuple[Outcome, ...]:
    """Classify archives in turn and record what became of each.

    Raises
    ------
    KeyboardInterrupt
        Passed on, after saying that nothing is written for the archive in hand.
    """
    outcomes: list[Outcome] = []
    for archive in planned:
        try:
            summary = classify_archive(archive, session, options)
        except KeyboardInterrupt:
            message(
                f"nothing is written for {archive.name}; "
                f"{len(outcomes)} of {len(planned)} archives were finished before it"
            )
            raise
        except Exception as error:
            status: Literal["failed", "refused"] = "failed"
            if isinstance(error, ParityError):
                status = "refused"
            outcomes.append(Outcome(archive, status, reason=_reason(error)))
        else:
            outcomes.append(Outcome(archive, "done", summary=summary))
        message(outcomes[-1].sentence())
    return tuple(outcomes)


def classify_archive(
    planned: PlannedArchive, session: Session, options: ClassifyOptions
) -> Summary:
    """Classify one archive and write its results folder.

    Raises
    ------
    ArchiveError
        If it cannot be read.
    ParityError
        If the engine strays from PyTorch on a sample of it; nothing is written then.
    EngineError, OSError
        If the engine or the disk fails; nothing is written then.
    """
    started = datetime.now(UTC)
    with open_archive(planned.path, options=options.read) as archive:
        for note in archive.notes:
            message(f"warning: {planned.name}: {note}")
        section = describe_archive(planned, archive)
        result, live = _classify_rows(planned, archive, session, options)
    parity = describe_parity(session, options)
    summary = build_summary(
        section,
        result,
        parity=parity if live is None else parity.with_live(live),
        provenance=describe_provenance(session, options, batch_size=session.batch_size),
        run=describe_run(
            started=started,
            classified=len(result.rows),
            archive=str(planned.path),
            bundle=str(session.bundle.path),
        ),
    )
    write_results(
        planned.folder,
        result,
        attributes={
            "archive_sha256": section.sha256,
            "bundle_sha256": session.bundle.sha256,
            "engine": session.engine.name,
            "variant": session.engine.variant,
            "device": session.engine.device,
        },
        summarise=lambda files: summary.with_files(files).as_json(),
        parquet=options.parquet,
    )
    return summary


def _classify_rows(
    planned: PlannedArchive, archive: Archive, session: Session, options: ClassifyOptions
) -> tuple[Classification, Comparison | None]:
    engine, batch_size = session.engine, session.batch_size
    # Read before the reading thread starts, so that a damaged table fails at once.
    ids, coords = archive.ids, archive.coords
    sample = None
    if session.reference is not None:
        sample = draw_sample(
            archive,
            session.reference,
            size=options.parity_sample,
            batch_size=batch_size,
            limits=session.bundle.manifest.limits[engine.variant],
        )
        require_agreement(sample, engine, batch_size=batch_size)
    with show_progress(planned.name, archive.n) as progress:
        blocks = list(classify_rows(archive, engine, batch_size=batch_size, progress=progress))
    live = None if sample is None else Comparison.of(judge_blocks(sample, blocks, engine))
    result = Classification.from_blocks(
        blocks, ids=ids, coords=coords, review_below=options.review_below
    )
    return result, live


def _reason(error: Exception) -> str:
    """Say in one line why an archive failed, without its path where the error leads with it."""
    if isinstance(error, CytoDinoError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        return " ".join(f"{error.strerror or error} {error.filename or ''}".split())
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
