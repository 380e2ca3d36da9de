"""Shards of archives, done by several runs, put together to the results of one."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cytodino.console import message
from cytodino.errors import InputError
from cytodino_batch.finishing import finish_archive
from cytodino_batch.header import Header, differing, part_changes, result_changes
from cytodino_batch.journal import Contents, read_header, read_journal, sync_folder
from cytodino_batch.lock import hold
from cytodino_batch.outcome import FAILED, Outcome
from cytodino_batch.plan import SUMMARY_NAME, PlannedArchive
from cytodino_batch.provenance import describe_run
from cytodino_batch.report import closing_table, result_lines, shift_lines
from cytodino_batch.runner import attempt_each
from cytodino_batch.shards import Shard, cut
from cytodino_batch.summary import Summary
from cytodino_batch.task import Task, work_file


@dataclass(frozen=True)
class _Wanted:
    """One archive of the plan, and the shards that have a part of it."""

    planned: PlannedArchive
    rows: int | None
    shards: tuple[Shard, ...]
    elsewhere: tuple[Path, ...]
    """Other folders that hold parts of it."""


def run_merge(folder: Path) -> int:
    """Merge every archive below a folder whose shards are all there.

    Nothing is needed but the folder: parts hold logits, names and coordinates of their rows, and
    what the summary says of archive, bundle and engine.

    Returns
    -------
    int
        0 done; 1 shards are missing or unfinished; 3 archives or rows failed; 4 parity refused.

    Raises
    ------
    InputError
        If there is no finished shard, or they are of different runs.
    """
    wanted = {entry.planned.name: entry for entry in _find_wanted(folder)}
    tasks = [Task(entry.planned) for entry in wanted.values()]
    outcomes = attempt_each(tasks, lambda task: _merge_archive(wanted[task.planned.name]))
    for line in result_lines(outcomes):
        click.echo(line)
    for line in shift_lines(outcomes):
        message(line)
    if len(outcomes) > 1:
        for line in closing_table(outcomes):
            message(line)
    if any(outcome.status == "missing" for outcome in outcomes):
        return FAILED
    return max(outcome.exit_code for outcome in outcomes)


def _find_wanted(folder: Path) -> list[_Wanted]:
    """Read the plan that all parts carry, and what it wants of each archive."""
    headers = {path: read_header(path) for path in sorted(folder.rglob("shard-*-of-*.part"))}
    whole = {path: header for path, header in headers.items() if header is not None}
    if not whole:
        raise _nothing_to_merge(folder, damaged=headers)
    (path, first), *others = whole.items()
    for other, header in others:
        if _cutting(header) != _cutting(first):
            raise InputError(
                f"is of another run than {path}: other archives, batch size or number of shards",
                where=other,
                mend="remove what is not wanted, or merge each run in a folder of its own",
            )
    folders: dict[str, dict[Path, None]] = defaultdict(dict)
    for path, header in whole.items():
        folders[header.archive.name][path.parent] = None
    return _want(first, {name: tuple(places) for name, places in folders.items()}, folder)


def _nothing_to_merge(folder: Path, damaged: Iterable[Path]) -> InputError:
    """Say of a folder without a finished shard what is there instead."""
    bad = {path.stem for path in damaged}  # a shard has a file in each of its archives
    counts = {
        "unfinished": len({path.stem for path in folder.rglob("shard-*-of-*.journal")} - bad),
        "damaged": len(bad),
    }
    results = sum(1 for _ in folder.rglob(SUMMARY_NAME))
    found, mend = "", "run cytodino-batch classify --shard I/N with this --out first"
    if any(counts.values()):
        found = " and ".join(f"{count} {how}" for how, count in counts.items() if count)
        mend = "give the commands of these shards again: classify --shard I/N"
    elif results:
        found = f"the results of {results} archive{'s' * (results > 1)}"
        mend = "give another folder, or do it again with classify --shard I/N --restart"
    what = "holds no finished shard" + f", but {found}" * bool(found)
    return InputError(what, where=folder, mend=mend)


def _want(header: Header, folders: Mapping[str, tuple[Path, ...]], below: Path) -> list[_Wanted]:
    shards = defaultdict(list)
    of, step = header.shard.of if header.shard else 1, header.provenance.rows_a_block
    for index in range(1, of + 1):
        shard = Shard(index=index, of=of)
        for position in cut(header.plan, shard, step):
            shards[position].append(shard)
    wanted = []
    for position, entry in enumerate(header.plan):
        place, *others = folders.get(entry.name, (below / entry.name,))
        planned = PlannedArchive(place, entry.name, place)
        wanted.append(_Wanted(planned, entry.rows, tuple(shards[position]), tuple(others)))
    return wanted


def _cutting(header: Header) -> tuple[object, ...]:
    return header.plan, header.shard and header.shard.of, header.provenance.rows_a_block


def _merge_archive(wanted: _Wanted) -> Outcome:
    if wanted.rows is None:
        raise InputError(
            "could not be opened when the work was cut into shards",
            mend="classify it by itself",
        )
    if wanted.elsewhere:
        raise InputError(
            f"holds shards of {wanted.planned.name}, and so does {wanted.elsewhere[0]}",
            where=wanted.planned.folder,
            mend="put the shards of one run into one folder, and remove what is there twice",
        )
    with hold(work_file(wanted.planned.folder, "lock")):
        paths = [work_file(wanted.planned.folder, "part", shard) for shard in wanted.shards]
        parts = {path: part for path in paths if (part := read_journal(path)) is not None}
        _require_agreement(parts)
        earlier = _merged_before(wanted.planned, list(parts.values()))
        if earlier is None:
            missing = [text for shard in wanted.shards if (text := _missing(wanted, shard))]
            if missing:
                return Outcome(wanted.planned, "missing", reason="; ".join(missing))
            earlier = _merge_parts(wanted.planned, [parts[path] for path in paths])
        sync_folder(wanted.planned.folder)
        for path in parts:
            path.unlink()
        return earlier


def _merge_parts(planned: PlannedArchive, parts: Sequence[Contents]) -> Outcome:
    header = parts[0].header
    summary = finish_archive(
        planned.folder,
        header,
        parts,
        lambda classified: describe_run(
            started=min(part.header.started for part in parts),
            classified=classified,
            archive=header.archive_path,
            bundle=header.bundle_path,
            shards=len(parts),
        ),
        archive=Path(header.archive_path),
    )
    return Outcome.of(planned, summary)


def _merged_before(planned: PlannedArchive, parts: Sequence[Contents]) -> Outcome | None:
    """Return the outcome where a merge was ended between its last file and its clearing up."""
    summary = Summary.read(planned.folder / SUMMARY_NAME)
    if summary is None:
        return None
    if parts and (changes := result_changes(summary, parts[0].header)):
        raise InputError(
            f"holds the finished results of another run: {differing(changes)}",
            where=planned.folder,
            mend="move them away, and merge again",
        )
    return Outcome.of(planned, summary, reason="merged before")


def _require_agreement(parts: Mapping[Path, Contents]) -> None:
    first = next(iter(parts), None)
    for path, part in parts.items():
        if first is not None and (changes := part_changes(parts[first].header, part.header)):
            raise InputError(
                f"does not agree with {first}: {differing(changes)}",
                where=path,
                mend="do one of them again, with --restart",
            )


def _missing(wanted: _Wanted, shard: Shard) -> str | None:
    """Say what is missing of a shard, if anything is."""
    part = read_journal(work_file(wanted.planned.folder, "part", shard))
    if part is not None and part.complete:
        return None
    journal = read_journal(work_file(wanted.planned.folder, "journal", shard))
    if journal is not None:
        return (
            f"shard {shard} stopped at row {journal.reached} of {journal.header.stop}: give its "
            "command again"
        )
    how = "is missing" if part is None else "is damaged"
    return f"shard {shard} {how}: run classify with --shard {shard}"
