"""One run of `cytodino-batch classify`, from its options to its exit code."""

from collections.abc import Sequence

import click

from cytodino.console import message
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.parquet import require_parquet
from cytodino_batch.plan import PlannedArchive, plan_archives
from cytodino_batch.report import closing_table, plan_lines, result_lines, session_lines
from cytodino_batch.runner import DONE, FAILED_SOME, classify_archives
from cytodino_batch.session import open_session


def run_job(options: ClassifyOptions) -> int:
    """Classify archives; results and paths go to stdout, all else to stderr.

    Returns
    -------
    int
        0 done; 3 finished, but archives or rows failed; 4 live parity refused an archive.

    Raises
    ------
    InputError
        If a path is not there, or holds finished results already; before any work is done.
    MissingExtraError
        If a file is asked for whose library is not installed; before any work is done.
    BundleError, EngineError, ParityError
        If bundle or engine cannot be used; before the first crop.
    """
    if options.parquet:
        require_parquet()
    planned = plan_archives(options.archives, options.out)
    with open_session(options) as session:
        for line in session_lines(session):
            message(line)
        if options.dry_run:
            return _show_plan(planned, options)
        outcomes = classify_archives(planned, session, options)
    for line in result_lines(outcomes):
        click.echo(line)
    if len(outcomes) > 1:
        for line in closing_table(outcomes):
            message(line)
    return max(outcome.exit_code for outcome in outcomes)


def _show_plan(planned: Sequence[PlannedArchive], options: ClassifyOptions) -> int:
    code = DONE
    for line, good in plan_lines(planned, options.read):
        click.echo(line, err=not good)
        code = code if good else FAILED_SOME
    return code
