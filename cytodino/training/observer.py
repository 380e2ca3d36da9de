"""Who is told how a training goes; a terminal in `cytodino.training.terminal`."""

from cytodino.run_manifest import EpochRecord


class Observer:
    """Hears what happens, and by default does nothing about it."""

    def say(self, text: str) -> None:
        """Hear something a person should know: a warning, a figure."""

    def begin(self, task: str, total: int) -> None:
        """Hear that a task of so many steps begins; the one before it is over."""

    def advance(self, steps: int = 1) -> None:
        """Hear that steps of the task are done."""

    def epoch(self, record: EpochRecord, *, best: bool) -> None:
        """Hear how an epoch ended, and whether it is the best so far."""
