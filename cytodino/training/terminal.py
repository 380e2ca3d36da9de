"""A training's progress on a terminal: a bar with the time left, and a line an epoch."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from cytodino.console import interactive
from cytodino.run_manifest import EpochRecord
from cytodino.training.observer import Observer

_HEADER = "epoch  train loss  validation loss  weighted F1  macro F1  accuracy"


class TerminalObserver(Observer):
    """Writes to stderr: lines always, the bar only where a person can see it move."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False, soft_wrap=True),
            disable=not interactive(),
            transient=True,
        )
        self._task: TaskID | None = None
        self._headed = False

    def __enter__(self) -> "TerminalObserver":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False)

    def begin(self, task: str, total: int) -> None:
        """Start a new bar in place of the last."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(task, total=total)

    def advance(self, steps: int = 1) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task, steps)

    def epoch(self, record: EpochRecord, *, best: bool) -> None:
        """Print the epoch's line; a star marks the best so far."""
        if not self._headed:
            self.say(_HEADER)
            self._headed = True
        self.say(
            f"{record.epoch:5}  {record.train_loss:10.4f}  {record.validation_loss:15.4f}  "
            f"{record.weighted_f1:11.4f}  {record.macro_f1:8.4f}  {record.accuracy:8.4f}"
            f"{' *' if best else ''}"
        )
