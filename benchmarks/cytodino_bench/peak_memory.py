"""The most memory that a program and all that it starts hold at a time."""

import threading
from contextlib import suppress

import psutil

__all__ = ["PeakMemory"]


class PeakMemory:
    """Watches a process and its children: the largest sum of their resident memory, in bytes.

    Pages that they share are counted for each, so it is an upper bound. It is looked at again and
    again, for what the system says of an ended process it takes from the one that started it.

    Parameters
    ----------
    pid : int
    every : float
        Seconds between two looks.
    """

    def __init__(self, pid: int, *, every: float = 0.5) -> None:
        self._peak, self._every = 0, every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(psutil.Process(pid),))
        self._thread.start()

    def _watch(self, process: psutil.Process) -> None:
        while not self._ended.wait(self._every):
            total = 0
            with suppress(psutil.NoSuchProcess):
                for one in (process, *process.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        total += one.memory_info().rss
            self._peak = max(self._peak, total)

    def stop(self) -> int:
        """Stop watching and return the peak."""
        self._ended.set()
        self._thread.join()
        return self._peak
