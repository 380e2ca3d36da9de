"""Ctrl-C and SIGTERM, put off until the block in hand is done and recorded."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from cytodino.console import Terminated, message

LEAVE = "finishing the block in hand; a second signal stops at once"


class Interruption:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self._asked: type[KeyboardInterrupt] | None = None
        self._idle = False

    def check(self) -> None:
        """Stop here if somebody asked.

        Raises
        ------
        KeyboardInterrupt
            `Terminated` where it was SIGTERM.
        """
        if self._asked is not None:
            raise self._asked

    @contextmanager
    def nothing_in_hand(self) -> Iterator[None]:
        """Stop at the first signal while the block waits for something, or for one before it."""
        self._idle = True
        try:
            self.check()
            yield
        finally:
            self._idle = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; stop at once on the second."""
        at_once = self._idle or self._asked is not None
        self._asked = KeyboardInterrupt if number == signal.SIGINT else Terminated
        if at_once:
            raise self._asked
        with suppress(RuntimeError):  # the signal came while something else was being printed
            message(LEAVE)


@contextmanager
def deferred_interrupts() -> Iterator[Interruption]:
    """Note SIGINT and SIGTERM instead of unwinding, until the block ends; the second unwinds."""
    interruption = Interruption()
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, interruption.ask)
    except ValueError:  # only the main thread may ask for signals
        yield interruption
        return
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
