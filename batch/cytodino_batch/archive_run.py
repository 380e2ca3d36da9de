"""One archive through the engine: from where an earlier run left it to its results."""

from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cytodino.archive import Archive, open_archive
from cytodino.console import message
from cytodino.errors import InputError
from cytodino_batch.digest import FileDigest
from cytodino_batch.extras import name_extras
from cytodino_batch.finishing import finish_archive
from cytodino_batch.header import (
    Header,
    differing,
    key_changes,
    listed,
    result_changes,
    same_file,
)
from cytodino_batch.interruption import deferred_interrupts
from cytodino_batch.journal import Contents, Journal, read_journal, sync_folder
from cytodino_batch.live import draw_sample, require_agreement
from cytodino_batch.lock import hold
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.outcome import Outcome, Tally
from cytodino_batch.plan import SUMMARY_NAME
from cytodino_batch.progress import show_progress
from cytodino_batch.provenance import (
    describe_archive,
    describe_parity,
    describe_provenance,
    describe_run,
)
from cytodino_batch.records import Digest, Sample
from cytodino_batch.results import changed_files, remove_results
from cytodino_batch.session import Session
from cytodino_batch.stream import classify_rows
from cytodino_batch.summary import Summary
from cytodino_batch.task import Task

START_AGAIN = "give --restart to do it again, or choose another --out"


def classify_archive(task: Task, session: Session, options: ClassifyOptions) -> Outcome:
    """Classify one archive, or a shard's rows of it, going on where an earlier run stopped.

    Raises
    ------
    ArchiveError
        If it cannot be read, or was changed meanwhile; no results are written then.
    InputError
        If another run is at work on it, or finished it with other options or from other input, or
        its finished results are no longer whole.
    ParityError
        If the engine strays from PyTorch on a sample of it; no results are written then.
    EngineError, OSError
        If the engine or the disk fails; the journal keeps what was done.
    KeyboardInterrupt
        If somebody asked to stop; the journal keeps what was done.
    """
    started = datetime.now(UTC)
    with (
        open_archive(task.planned.path, options=options.read, probe=True) as archive,
        hold(task.lock),
        FileDigest(task.planned.path, archive.stamp) as digest,
    ):
        return _ArchiveRun(task, archive, session, options, started, digest).run()


def forget_work(task: Task) -> None:
    """Remove what earlier runs did of an archive or a shard: its results, part and journal.

    Raises
    ------
    InputError
        If another run is at work on it; all of it stays then.
    OSError
        If the disk refuses.
    """
    folder = task.planned.folder
    if not folder.is_dir():
        return
    with hold(task.lock):
        _forget(task)
    with suppress(OSError):  # not empty, or removed by another
        folder.rmdir()


def _forget(task: Task) -> None:
    remove_results(task.planned.folder)
    task.part.unlink(missing_ok=True)
    task.journal.unlink(missing_ok=True)


class _ArchiveRun:
    """The steps of `classify_archive`, with what they share."""

    def __init__(
        self,
        task: Task,
        archive: Archive,
        session: Session,
        options: ClassifyOptions,
        started: datetime,
        digest: FileDigest,
    ) -> None:
        self._task, self._archive, self._session = task, archive, session
        self._options, self._started, self._digest = options, started, digest
        self._name = task.planned.name
        self._span = task.span or (0, archive.n)
        for note in archive.notes:
            message(f"warning: {self._name}: {note}")

    def run(self) -> Outcome:
        if self._options.restart:
            _forget(self._task)  # again, for another run may have been at work here until now
        elif (finished := self._finished()) is not None:
            return finished
        contents, header = self._where_to_begin()
        sample = self._sample(header, contents)
        self._classify(header, contents, sample)
        return self._finish(header, contents) if self._task.shard is None else self._hand_over()

    def _finished(self) -> Outcome | None:
        """Return the outcome of an earlier run that did the same and finished."""
        path = self._task.planned.folder / SUMMARY_NAME
        summary = Summary.read(path)
        if summary is None and path.exists():
            self._refuse(("the version of cytodino",))
        if summary is not None:
            recorded = summary.provenance.batch_size
            self._refuse(result_changes(summary, self._known(recorded)))
            self._require_whole(summary)
            self._task.journal.unlink(missing_ok=True)
            return Outcome.of(self._task.planned, summary, f"finished before; {START_AGAIN}")
        part = read_journal(self._task.part)
        if part is None or not part.complete:
            return None
        recorded = part.header.provenance.batch_size
        self._refuse(key_changes(part.header, self._known(recorded)))
        return Outcome(self._task.planned, "part", part.tally, reason="finished before")

    def _refuse(self, changes: tuple[str, ...]) -> None:
        if changes:
            raise InputError(
                f"holds the finished results of another run: {differing(changes)}",
                where=self._task.planned.folder,
                mend=START_AGAIN,
            )

    def _require_whole(self, summary: Summary) -> None:
        changed = changed_files(self._task.planned.folder, summary.provenance.files)
        if changed:
            raise InputError(
                f"holds finished results that are no longer whole: {listed(changed)}",
                where=self._task.planned.folder,
                mend=START_AGAIN,
            )

    def _known(self, recorded_batch: int) -> Header:
        """Describe this run with the archive's hash, to be held against an earlier one."""
        return self._header(recorded_batch).with_digest(self._digest.result())

    def _header(self, recorded_batch: int | None = None) -> Header:
        """Describe this run; an automatic batch size gives way to the one that was recorded."""
        batch_size = self._session.batch_size
        if recorded_batch is not None and self._options.batch_size is None:
            batch_size = recorded_batch
        engine, manifest = self._session.engine, self._session.bundle.manifest
        live = self._session.reference is not None
        start, stop = self._span
        return Header(
            archive=describe_archive(self._task.planned, self._archive, sha256=""),
            parity=describe_parity(self._session, self._options),
            provenance=describe_provenance(self._session, self._options, batch_size=batch_size),
            live_limits=manifest.limits[engine.variant] if live else None,
            calibration=self._session.calibration,
            extras=name_extras(self._options),
            start=start,
            stop=stop,
            shard=self._task.shard,
            plan=self._task.plan,
            started=self._started,
            archive_path=str(self._task.planned.path),
            archive_stamp=self._archive.stamp,
            bundle_path=str(self._session.bundle.path),
        )

    def _where_to_begin(self) -> tuple[Contents | None, Header]:
        """Return what a journal holds that fits this run, and what the results belong to."""
        contents = read_journal(self._task.journal)
        if contents is None:
            if self._task.journal.exists():
                message(f"{self._name}: the journal is unreadable; starting again")
            return None, self._header()
        before = contents.header
        recorded = before.provenance.batch_size
        # Stopped before the hash was there, it goes by the file, and the hash comes when it comes.
        header = self._known(recorded) if before.archive.sha256 else self._header(recorded)
        changes = key_changes(before, header)
        if not before.archive.sha256 and not same_file(before, header):
            changes = ("the archive", *changes)
        if changes:
            self._require_own(before)
            message(f"{self._name}: starting again, for {listed(changes)} changed")
            return None, self._header()
        if before.parity.mode == header.parity.mode:
            # The check that was made before the first crop; this run has passed its own.
            header = header.model_copy(update={"parity": before.parity})
        dropped = f"; {contents.dropped} damaged bytes are dropped" if contents.dropped else ""
        message(
            f"{self._name}: going on at row {contents.reached}, batches of "
            f"{header.provenance.batch_size}{dropped}"
        )
        return contents, header

    def _require_own(self, before: Header) -> None:
        """Refuse to throw away what was done of another archive that is still there."""
        there, here = Path(before.archive_path), self._task.planned.path
        if there.exists() and not there.samefile(here):
            raise InputError(
                f"holds unfinished work on another archive, {there}",
                where=self._task.planned.folder,
                mend="finish that first, choose another --out, or give --restart to drop it",
            )

    def _sample(self, header: Header, contents: Contents | None) -> Sample | None:
        """Return what PyTorch says of the sample, refusing the engine where it strays on it."""
        reference, limits = self._session.reference, header.live_limits
        if reference is None or limits is None:
            return None
        if contents is not None and contents.sample is not None:
            asked, before = header.provenance, contents.header.provenance
            if (asked.parity_sample, asked.reference_sha256) == (
                before.parity_sample,
                before.reference_sha256,
            ):
                return contents.sample
        sample, crops = draw_sample(
            self._archive, reference, size=self._options.parity_sample, within=self._span
        )
        batch_size = header.provenance.batch_size
        require_agreement(sample, crops, self._session.engine, batch_size=batch_size, limits=limits)
        return sample

    def _classify(self, header: Header, contents: Contents | None, sample: Sample | None) -> None:
        """Do the rows that the journal does not hold."""
        reached = contents.reached if contents is not None else header.start
        # Read before the reading thread starts, so that a damaged table fails at once.
        names, coords = self._archive.names, self._archive.coords
        path = self._task.journal
        journal = Journal.begin(path, header) if contents is None else Journal(path, contents.size)
        with (
            journal,
            show_progress(self._name, header.stop - header.start, reached - header.start) as count,
            deferred_interrupts() as interruption,
            closing(
                classify_rows(
                    self._archive,
                    self._session.engine,
                    batch_size=header.provenance.batch_size,
                    within=(reached, header.stop),
                    progress=count,
                )
            ) as blocks,
        ):
            if sample is not None and (contents is None or sample is not contents.sample):
                journal.append(sample)
            hashed = contents is not None and bool(contents.header.archive.sha256)
            for block in blocks:
                if not hashed and self._digest.ready:
                    journal.append(Digest(self._digest.result()))
                    hashed = True
                rows = slice(block.start, block.stop)
                here = None if coords is None else coords[rows]
                journal.append(replace(block, ids=names[rows], coords=here))
                interruption.check()
            if not hashed:
                with interruption.nothing_in_hand():
                    sha256 = self._digest.result()
                journal.append(Digest(sha256))
            journal.flush()
            interruption.check()
        self._archive.require_unchanged()

    def _finish(self, header: Header, earlier: Contents | None) -> Outcome:
        """Write the results, and then remove the journal."""
        contents = read_journal(self._task.journal)
        before = earlier.tally if earlier is not None else Tally(0, 0)
        summary = finish_archive(
            self._task.planned.folder,
            header.with_digest(self._digest.result()),
            [contents] if contents is not None else [],
            lambda classified: describe_run(
                started=self._started,
                classified=classified - before.classified,
                archive=header.archive_path,
                bundle=header.bundle_path,
                resumed_rows=before.classified + before.quarantined,
            ),
            archive=self._task.planned.path,
        )
        sync_folder(self._task.planned.folder)
        self._task.journal.unlink()
        return Outcome.of(self._task.planned, summary)

    def _hand_over(self) -> Outcome:
        """Give the whole journal of a shard the name that `merge` looks for."""
        self._task.journal.replace(self._task.part)
        sync_folder(self._task.planned.folder)
        part = read_journal(self._task.part)
        return Outcome(self._task.planned, "part", None if part is None else part.tally)
