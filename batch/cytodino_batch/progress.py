"""A live bar on a terminal, nothing else where stderr is a file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cytodino.console import interactive


@contextmanager
def show_progress(name: str, rows: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show count, rate and time left while the rows of one archive are classified.

    Parameters
    ----------
    name : str
    rows : int
        All that the archive, or the shard, has.
    done : int
        Those that an earlier run had done.

    Yields
    ------
    callable
        To be called with the number of rows just done.
    """
    if not interactive():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} crops/s"),
        TimeLeft(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(name, total=rows, completed=done, rate="-")

        def advance(count: int) -> None:
            bar.advance(task, count)
            speed = bar.tasks[0].speed
            bar.update(task, rate="-" if speed is None else f"{speed:.1f}")

        yield advance
