"""What the person at the terminal reads: the plan, the differential, the closing table."""

from collections.abc import Iterator, Sequence

from cytodino.archive import ReadOptions, open_archive
from cytodino.calibration import Guarantee
from cytodino.errors import InputError
from cytodino_batch.confidence import NOT_CALIBRATED
from cytodino_batch.differential import MyeloidErythroid, Share
from cytodino_batch.outcome import Outcome
from cytodino_batch.plan import RESULT_FILES, PlannedArchive
from cytodino_batch.session import Session
from cytodino_batch.summary import Summary


def session_lines(session: Session, review_below: float | None = None) -> Iterator[str]:
    """Say what computes, what it was held against, and what is promised of accepted cells.

    Parameters
    ----------
    session : Session
    review_below : float, optional
        The user's own threshold.
    """
    found = session.engine.describe()
    yield (
        f"{found.engine} {found.version} on {found.device} ({found.provider}), "
        f"variant {found.variant}, {session.batch.sentence()}"
    )
    for warning in found.warnings:
        yield f"warning: {warning}"
    yield session.statement
    yield _calibration_line(session, review_below)


def plan_lines(planned: Sequence[PlannedArchive], read: ReadOptions) -> Iterator[tuple[str, bool]]:
    """Open each archive and say what would be done with it; nothing is written.

    Yields
    ------
    str, bool
        The line, and whether the archive can be opened.
    """
    for archive in planned:
        try:
            with open_archive(archive.path, options=read, probe=True) as opened:
                line = f"{archive.path}: {opened.n} crops, {opened.layout} -> {archive.folder}"
        except InputError as error:
            yield " ".join(str(error).split()), False
        else:
            yield line, True


def differential_lines(summary: Summary) -> Iterator[str]:
    """Show the differential: cells by class within lineage, those that occur, and what it says."""
    counts, found = summary.counts, summary.differential
    classes = {entry.code: entry for entry in found.classes}
    yield f"{counts.classified} of {counts.rows} crops classified, {counts.quarantined} quarantined"
    if found.counted:
        yield f"{f'differential of {found.counted} cells':30} {'cells':>7} {'':8}  95 % interval"
    for lineage in found.lineages:
        if lineage.count:
            yield _share_line(lineage.lineage, lineage)
            for entry in (classes[code] for code in lineage.codes):
                if entry.count:
                    line = _share_line(f"  {entry.code} {entry.name}", entry)
                    yield line + _mark(entry.risk, "  critical")
    if found.counted:
        yield _ratio_line(found.myeloid_erythroid)
        yield _share_line("blasts", found.blasts)
    yield "apart, in no percentage: " + ", ".join(
        f"{entry.count} {entry.code} {entry.name}" + _mark(entry.risk, " (critical)")
        for entry in found.apart
    )
    for flag in found.flags:
        yield f"flag: {flag}"
    yield f"intervals: {found.interval}"


def review_lines(summary: Summary) -> Iterator[str]:
    """Say how many cells a person should look at, and why."""
    review = summary.review
    yield (
        f"{review.total} cells for review: {summary.counts.critical} of a critical class, "
        f"or of a confidence below {review.below:g}"
    )
    if summary.confidence is not None:
        yield f"{summary.confidence.accepted} cells accepted: {summary.confidence.statement}"
        yield f"confidence: {summary.confidence.meaning}"
    for reason, count in review.reasons.items():
        if count:
            yield f"  {reason:28} {count:7d}"


def result_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Give the differential and files of one archive, or the folders of several."""
    done = [(found, found.summary) for found in outcomes if found.summary is not None]
    if len(outcomes) > 1 or not done:
        yield from (str(found.planned.folder) for found in outcomes if found.tally is not None)
        return
    for found, summary in done:
        yield from differential_lines(summary)
        yield from review_lines(summary)
        yield f"parity: {summary.parity.statement}"
        files = (found.planned.folder / name for name in RESULT_FILES)
        yield from (str(file) for file in files if file.exists())


def shift_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Warn of each archive whose cells do not look like the calibration cells."""
    for found in outcomes:
        judged = None if found.summary is None else found.summary.confidence
        if judged is not None and judged.shift is not None and judged.shift.shifted:
            yield f"warning: {found.planned.name}: {judged.statement}"


def closing_table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """List every archive with what became of it, and the reason where it failed."""
    width = max(len("archive"), *(len(found.planned.name) for found in outcomes))
    yield f"{'archive':{width}}  status   classified  quarantined  reason"
    for found in outcomes:
        tally = found.tally
        numbers = (tally.classified, tally.quarantined) if tally else ("-", "-")
        yield (
            f"{found.planned.name:{width}}  {found.status:7}  {numbers[0]:>10}  "
            f"{numbers[1]:>11}  {found.reason}"
        ).rstrip()


def _calibration_line(session: Session, asked: float | None) -> str:
    model = session.calibration
    if model is None:
        return NOT_CALIBRATED
    review = model.calibration.review
    said = f"confidence is calibrated, temperature {model.calibration.temperature:.3f}; "
    if asked is not None:
        return f"{said}accepted from {asked:g} up, of which nothing is promised"
    if isinstance(review, Guarantee):
        return f"{said}accepted from {review.threshold:g} up: {review.sentence()}"
    return f"{said}no threshold is promised: {review.reason}"


def _share_line(name: str, share: Share) -> str:
    return (
        f"{name:30} {share.count:7d} {share.percent or 0:6.1f} %  "
        f"{share.low:5.1f} to {share.high:5.1f} %"
    )


def _mark(risk: str, words: str) -> str:
    return words if risk == "critical" else ""


def _ratio_line(found: MyeloidErythroid) -> str:
    if found.ratio is None:
        return f"{'M:E':30} none: {found.reason}"
    return (
        f"{'M:E':30} {found.ratio:7.2f} {'':8}  {found.low:5.2f} to {found.high:5.2f}    "
        f"{found.myeloid} myeloid, {found.erythroid} erythroid"
    )
