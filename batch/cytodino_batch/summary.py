"""`summary.json`: what was counted, what was checked, and with what it was made.

Everything outside the section `run` is the same whenever the same archive is classified by the
same bundle, engine and options.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from cytodino.engines.base import EngineDescription
from cytodino.parity import Limits, ParityReport, Verdict
from cytodino.paths import PrintableText
from cytodino.taxonomy import CLASSES, LINEAGES, N_CLASSES
from cytodino_batch.results import Classification

SCHEMA_VERSION = 1

ParityMode = Literal["golden", "live", "off"]

NOT_CHECKED = "nothing was checked: the engine was not held against PyTorch before it classified"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArchiveSection(_Section):
    """The archive that was read."""

    name: PrintableText
    """Path below the common root of the archives that were classified together."""
    sha256: str
    layout: str
    rows: int
    slide: PrintableText
    channel_order: str


class Counts(_Section):
    """Rows of the archive by what became of them."""

    rows: int
    classified: int
    quarantined: int
    critical: int
    """Classified as one of the critical classes."""
    review: int
    """Critical, or less confident than `review_below`."""


class ClassCount(_Section):
    """Crops of one class."""

    code: str
    name: str
    lineage: str
    risk: str
    count: int
    percent: float
    """Of the classified crops, 0 to 100; 0 where none was classified."""


class LineageCount(_Section):
    """Crops of one lineage."""

    lineage: str
    count: int
    percent: float
    """Of the classified crops, 0 to 100; 0 where none was classified."""


class Comparison(_Section):
    """One comparison with PyTorch's logits, in short."""

    cells: int
    verdict: Verdict
    """unproven: within the limits, on fewer cells than a proof takes."""
    failures: tuple[str, ...]
    logit_max: float
    probability_max: float
    agreement: float
    flips: int
    critical_flips: int
    limits: Limits

    @classmethod
    def of(cls, report: ParityReport) -> "Comparison":
        """Shorten a parity report."""
        return cls(
            cells=report.n,
            verdict=report.verdict,
            failures=report.failures,
            logit_max=report.logit_max,
            probability_max=report.probability_max,
            agreement=report.agreement,
            flips=len(report.flips),
            critical_flips=len(report.critical_flips),
            limits=report.limits,
        )

    def sentence(self) -> str:
        """Say it in one line."""
        outcome = "beyond the limits" if self.verdict == "failed" else "within the limits"
        return (
            f"{outcome} on {self.cells} cells: {self.flips} flips, "
            f"largest change of a probability {self.probability_max:.1e}, "
            f"of a logit {self.logit_max:.1e}"
        )


class ParitySection(_Section):
    """What the engine was held against, on this machine."""

    mode: ParityMode
    statement: str
    golden: Comparison | None = None
    """On golden cells of the bundle, before the first crop."""
    live: Comparison | None = None
    """On a seeded sample of this archive, beside PyTorch."""

    def with_live(self, live: Comparison) -> "ParitySection":
        """Add the comparison on the archive's own cells."""
        statement = f"{self.statement}; live check {live.sentence()}"
        return self.model_copy(update={"live": live, "statement": statement})


class Provenance(_Section):
    """What the results were made with."""

    bundle_sha256: str
    engine: EngineDescription
    batch_size: int
    batch_size_chosen: Literal["auto", "user"]
    rows_a_block: int
    review_below: float
    parity_sample: int | None
    """Cells asked for by `--parity live`; None in the other modes."""
    reference_sha256: str | None
    """Of the run's `run.json`, where a run was given."""
    versions: dict[str, str]
    files: Mapping[str, str] = {}
    """sha256 of each of the other result files."""


class RunSection(_Section):
    """What differs from one run to the next."""

    started: datetime
    finished: datetime
    seconds: float
    crops_per_second: float
    host: str
    archive: PrintableText
    bundle: PrintableText


class Summary(_Section):
    """The whole of `summary.json`."""

    schema_version: int = SCHEMA_VERSION
    archive: ArchiveSection
    counts: Counts
    classes: tuple[ClassCount, ...]
    lineages: tuple[LineageCount, ...]
    parity: ParitySection
    provenance: Provenance
    run: RunSection

    def with_files(self, files: Mapping[str, str]) -> "Summary":
        """Add the sha256 of each of the other result files."""
        provenance = self.provenance.model_copy(update={"files": dict(files)})
        return self.model_copy(update={"provenance": provenance})

    def as_json(self) -> str:
        """Give the text of the file."""
        return self.model_dump_json(indent=2) + "\n"


def count_rows(result: Classification) -> Counts:
    """Count rows by what became of them."""
    return Counts(
        rows=len(result.rows) + len(result.quarantined),
        classified=len(result.rows),
        quarantined=len(result.quarantined),
        critical=int(result.critical.sum()),
        review=int(result.review.sum()),
    )


def count_classes(result: Classification) -> tuple[ClassCount, ...]:
    """Count crops by class, all 21, in the order of the logits."""
    counts = np.bincount(result.ranking[:, 0], minlength=N_CLASSES)
    return tuple(
        ClassCount(
            code=cell.code,
            name=cell.name,
            lineage=cell.lineage,
            risk=cell.risk,
            count=int(count),
            percent=_percent(int(count), len(result.rows)),
        )
        for cell, count in zip(CLASSES, counts, strict=True)
    )


def count_lineages(classes: tuple[ClassCount, ...]) -> tuple[LineageCount, ...]:
    """Add the classes of each lineage up."""
    total = sum(entry.count for entry in classes)
    sums = {
        lineage: sum(entry.count for entry in classes if entry.lineage == lineage)
        for lineage in LINEAGES
    }
    return tuple(
        LineageCount(lineage=lineage, count=count, percent=_percent(count, total))
        for lineage, count in sums.items()
    )


def _percent(count: int, total: int) -> float:
    return round(100 * count / total, 4) if total else 0.0
