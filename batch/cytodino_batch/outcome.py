"""What became of one archive, for the exit code and for people."""

from dataclasses import dataclass
from typing import Literal

from cytodino_batch.plan import PlannedArchive
from cytodino_batch.summary import Summary

DONE, FAILED, FAILED_SOME, PARITY_REFUSED = 0, 1, 3, 4


@dataclass(frozen=True)
class Tally:
    """Rows by what became of them."""

    classified: int
    quarantined: int


@dataclass(frozen=True)
class Outcome:
    """What became of one archive, or of a shard's rows of it."""

    planned: PlannedArchive
    status: Literal["done", "part", "failed", "refused", "missing"]
    """part: a shard's rows are done, and wait for `merge`; refused: the engine strayed from
    PyTorch on this archive's cells; missing: shards of it are not there."""
    tally: Tally | None = None
    """Of what is done."""
    summary: Summary | None = None
    """Of an archive that has its results."""
    reason: str = ""
    """Why it is not done, or what else there is to say."""

    @classmethod
    def of(cls, planned: PlannedArchive, summary: Summary, reason: str = "") -> "Outcome":
        """Give the outcome of an archive that has its results."""
        tally = Tally(summary.counts.classified, summary.counts.quarantined)
        return cls(planned, "done", tally, summary, reason)

    @property
    def exit_code(self) -> int:
        """0; 1 shards missing; 3 the archive or some rows failed; 4 parity refused it."""
        if self.status in ("refused", "missing"):
            return PARITY_REFUSED if self.status == "refused" else FAILED
        return FAILED_SOME if self.tally is None or self.tally.quarantined else DONE

    def sentence(self) -> str:
        """Say what became of it in one line."""
        if self.tally is None:
            return f"{self.planned.name}: {self.status}: {self.reason}"
        if self.reason:
            return f"{self.planned.name}: {self.reason}"
        rows = self.tally.classified + self.tally.quarantined
        lost = f", {self.tally.quarantined} quarantined" if self.tally.quarantined else ""
        speed = ""
        if self.summary is not None:
            run = self.summary.run
            speed = f" in {run.seconds:.1f} s ({run.crops_per_second:.1f} crops/s)"
        return (
            f"{self.planned.name}: {self.tally.classified} of {rows} crops classified{lost}{speed}"
        )
