"""Archives -> results folders, one after the other; a bad one does not stop the next."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

from cytodino.console import message
from cytodino.errors import CytoDinoError, InputError, ParityError
from cytodino_batch.archive_run import classify_archive, forget_work
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.outcome import Outcome
from cytodino_batch.session import Session
from cytodino_batch.task import Task

SAME_COMMAND = "the same command"


def classify_archives(
    tasks: Sequence[Task], session: Session, options: ClassifyOptions
) -> tuple[Outcome, ...]:
    """Classify archives in turn and record what became of each; see `attempt_each`.

    A restart forgets what was done of all of them before the first begins: stopped, it can then go
    on without `--restart`, which would refuse the older results of those that it had not reached.
    """
    if options.restart:
        for task in tasks:
            with suppress(InputError, OSError):  # it keeps its files, and fails in its turn
                forget_work(task)
    again = SAME_COMMAND + " without --restart" * options.restart
    return attempt_each(tasks, lambda task: classify_archive(task, session, options), again=again)


def attempt_each(
    tasks: Sequence[Task], attempt: Callable[[Task], Outcome], *, again: str = SAME_COMMAND
) -> tuple[Outcome, ...]:
    """Do something to each archive in turn; one that fails does not stop the next.

    Parameters
    ----------
    tasks : sequence of Task
    attempt : function
        Returns what became of one.
    again : str
        What goes on where this is interrupted, for people.

    Raises
    ------
    KeyboardInterrupt
        Passed on, after saying how to go on.
    """
    outcomes: list[Outcome] = []
    for task in tasks:
        try:
            outcomes.append(attempt(task))
        except KeyboardInterrupt:
            message(
                f"stopped in {task.planned.name}; {len(outcomes)} of {len(tasks)} archives were "
                f"finished before it; {again} goes on from here"
            )
            raise
        except Exception as error:
            status: Literal["failed", "refused"] = "failed"
            if isinstance(error, ParityError):
                status = "refused"
            outcomes.append(Outcome(task.planned, status, reason=_reason(error, task, again)))
        message(outcomes[-1].sentence())
    return tuple(outcomes)


def _reason(error: Exception, task: Task, again: str) -> str:
    """Say in one line why an archive failed, without its path where the error leads with it."""
    if isinstance(error, CytoDinoError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        reason = " ".join(f"{error.strerror or error} {error.filename or ''}".split())
        kept = f"; what was done is kept, and {again} goes on" * task.journal.exists()
        return reason + kept
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
