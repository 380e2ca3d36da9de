"""One piece of work cut into parts for a scheduler's job array, at the borders of blocks."""

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict

from cytodino.archive import open_archive
from cytodino.archive.options import NO_OPTIONS, ReadOptions
from cytodino.errors import InputError
from cytodino.paths import printable
from cytodino_batch.plan import PlannedArchive
from cytodino_batch.stream import Span


class Shard(BaseModel):
    """Part `index` of `of`, counted from 1 as job arrays do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2/7`.

        Raises
        ------
        ValueError
            If it is not of that form, or not 1 <= I <= N.
        """
        index, slash, of = text.partition("/")
        if not (slash and index.isascii() and index.isdigit() and of.isascii() and of.isdigit()):
            raise ValueError(f"{text!r} is not of the form I/N, such as 2/7")
        shard = cls(index=int(index), of=int(of))
        if not 1 <= shard.index <= shard.of:
            raise ValueError(f"{text!r}: I counts from 1 to N")
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


class PlannedRows(BaseModel):
    """One archive of a run that is cut into shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int | None
    """None where it could not be opened: one shard has to say so."""


def survey(
    planned: Sequence[PlannedArchive], read: ReadOptions = NO_OPTIONS
) -> tuple[PlannedRows, ...]:
    """Open each archive and count its rows; every shard comes to the same list."""
    return tuple(
        PlannedRows(name=printable(archive.name), rows=_count_rows(archive, read))
        for archive in planned
    )


def cut(plan: Sequence[PlannedRows], shard: Shard, rows_a_block: int) -> dict[int, Span]:
    """Find the rows that are a shard's.

    The blocks of all archives, one behind the other, are cut into parts of one length, give or
    take a block: so most archives are whole in one shard, and no block is ever cut. An archive
    that cannot be opened counts as one block, and is the span (0, 0).

    Returns
    -------
    dict
        Rows, by position in `plan`, of the archives that the shard has a part of.
    """
    blocks = [1 if entry.rows is None else -(-entry.rows // rows_a_block) for entry in plan]
    total = sum(blocks)
    first, last = (total * index // shard.of for index in (shard.index - 1, shard.index))
    spans: dict[int, Span] = {}
    before = 0
    for position, (entry, count) in enumerate(zip(plan, blocks, strict=True)):
        low, high = max(first - before, 0), min(last - before, count)
        before += count
        if low < high:
            rows = entry.rows or 0
            spans[position] = (min(low * rows_a_block, rows), min(high * rows_a_block, rows))
    return spans


def _count_rows(archive: PlannedArchive, read: ReadOptions) -> int | None:
    try:
        with open_archive(archive.path, options=read, probe=True) as opened:
            return opened.n
    except InputError:
        return None
