"""One archive, or a shard's rows of one, and the files that belong to the work on it."""

from dataclasses import dataclass
from pathlib import Path

from cytodino_batch.plan import PlannedArchive
from cytodino_batch.shards import PlannedRows, Shard
from cytodino_batch.stream import Span

WHOLE = "classify"


@dataclass(frozen=True)
class Task:
    """What one run does of one archive."""

    planned: PlannedArchive
    shard: Shard | None = None
    """None where all of it is done."""
    span: Span | None = None
    """Rows of the shard."""
    plan: tuple[PlannedRows, ...] = ()
    """All archives that are cut into shards together."""

    @property
    def journal(self) -> Path:
        """What has been done."""
        return work_file(self.planned.folder, "journal", self.shard)

    @property
    def lock(self) -> Path:
        """Held by the process that is at work."""
        return work_file(self.planned.folder, "lock", self.shard)

    @property
    def part(self) -> Path:
        """The journal of a shard that is done, for `merge`."""
        return work_file(self.planned.folder, "part", self.shard)


def work_file(folder: Path, kind: str, shard: Shard | None = None) -> Path:
    """Name a file of the work on an archive: `classify.journal`, `shard-2-of-7.part`."""
    name = WHOLE if shard is None else f"shard-{shard.index}-of-{shard.of}"
    return folder / f"{name}.{kind}"
