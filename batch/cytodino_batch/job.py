"""One run of `cytodino-batch classify`, from its options to its exit code."""

from collections.abc import Mapping, Sequence

import click

from cytodino.console import message
from cytodino_batch.extras import name_extras
from cytodino_batch.heap import share_one_heap
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.outcome import DONE, FAILED_SOME
from cytodino_batch.plan import PlannedArchive, plan_archives
from cytodino_batch.report import (
    closing_table,
    plan_lines,
    result_lines,
    session_lines,
    shift_lines,
)
from cytodino_batch.runner import classify_archives
from cytodino_batch.session import Session, open_session
from cytodino_batch.shards import PlannedRows, cut, survey
from cytodino_batch.stream import Span, rows_a_block
from cytodino_batch.task import Task


def run_job(options: ClassifyOptions) -> int:
    """Classify archives; results and paths go to stdout, all else to stderr.

    Returns
    -------
    int
        0 done; 3 finished, but archives or rows failed; 4 live parity refused an archive.

    Raises
    ------
    InputError
        If a path is not there; before any work is done.
    MissingExtraError
        If a file is asked for whose library is not installed; before any work is done.
    BundleError, EngineError, ParityError
        If bundle or engine cannot be used; before the first crop.
    """
    name_extras(options)  # a missing library is said first
    share_one_heap()
    planned = plan_archives(options.archives, options.out)
    with open_session(options) as session:
        for line in session_lines(session, options.review_below):
            message(line)
        tasks = _share_out(planned, session, options)
        if options.dry_run:
            return _show_plan([task.planned for task in tasks], options)
        outcomes = classify_archives(tasks, session, options)
    for line in result_lines(outcomes):
        click.echo(line)
    for line in shift_lines(outcomes):
        message(line)
    if len(outcomes) > 1:
        for line in closing_table(outcomes):
            message(line)
    return max((outcome.exit_code for outcome in outcomes), default=DONE)


def _share_out(
    planned: Sequence[PlannedArchive], session: Session, options: ClassifyOptions
) -> list[Task]:
    """Give each archive a task, or those that the shard has a part of."""
    if options.shard is None:
        return [Task(archive) for archive in planned]
    plan = survey(planned, options.read)
    spans = cut(plan, options.shard, rows_a_block(session.batch_size))
    message(f"shard {options.shard}: {_parts(spans, plan)}")
    return [Task(planned[at], options.shard, span, plan) for at, span in spans.items()]


def _parts(spans: Mapping[int, Span], plan: Sequence[PlannedRows]) -> str:
    if not spans:
        return "nothing to do: there are fewer blocks of rows than shards"
    rows = sum(stop - start for start, stop in spans.values())
    return f"{rows} of {sum(entry.rows or 0 for entry in plan)} rows, in {len(spans)} archives"


def _show_plan(planned: Sequence[PlannedArchive], options: ClassifyOptions) -> int:
    code = DONE
    for line, good in plan_lines(planned, options.read):
        click.echo(line, err=not good)
        code = code if good else FAILED_SOME
    return code
