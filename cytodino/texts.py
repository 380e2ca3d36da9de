"""Many short texts in little memory: a list of them takes a Python object each."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

__all__ = ["Texts"]


class Texts(Sequence[str]):
    """Texts end to end, in UTF-8; one is made when it is asked for.

    Parameters
    ----------
    parts : iterable of sequences of str
        What to hold, in parts, so that no part need be as long as the whole.
    """

    def __init__(self, parts: Iterable[Sequence[str]] = ()) -> None:
        self._data = bytearray()
        self._ends = array("q")
        for part in parts:
            self.extend(part)

    def extend(self, texts: Sequence[str]) -> None:
        """Add texts at the end."""
        for text in texts:
            self._data += _encode(text)
            self._ends.append(len(self._data))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        at = range(len(self))[index]
        start = self._ends[at - 1] if at else 0
        return self._data[start : self._ends[at]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[at] for at in range(len(self)))


def _encode(text: str) -> bytes:
    # File names that are no UTF-8 hold lone surrogates, and have to come back as they were.
    return text.encode("utf-8", "surrogatepass")
