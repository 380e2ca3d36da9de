"""`summary.json`: what was counted, what was checked, and with what it was made.

Everything outside the section `run` is the same whenever the same archive is classified by the
same bundle, engine and options.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from cytodino.engines.base import EngineDescription
from cytodino.parity import Limits, ParityReport, Verdict
from cytodino.paths import PrintableText
from cytodino_batch.classification import Classification
from cytodino_batch.confidence import ConfidenceRule, ConfidenceSection
from cytodino_batch.differential import Differential
from cytodino_batch.review import Review
from cytodino_batch.section import Section

SCHEMA_VERSION = 1

ParityMode = Literal["golden", "live", "off"]

NOT_CHECKED = "nothing was checked: the engine was not held against PyTorch before it classified"


class ArchiveSection(Section):
    """The archive that was read."""

    name: PrintableText
    """Path below the common root of the archives that were classified together."""
    sha256: str
    layout: str
    dataset: PrintableText = ""
    """Where in the archive the crops are."""
    rows: int
    slide: PrintableText
    channel_order: str
    """Of what is stored; what was classified is RGB."""
    checksums: bool = True
    """Whether the archive has one a row; without, damage may pass unseen."""
    notes: tuple[PrintableText, ...] = ()
    """What was taken for granted because the archive does not say it."""


class Counts(Section):
    """Rows of the archive by what became of them."""

    rows: int
    classified: int
    quarantined: int
    critical: int
    """Classified as one of the critical classes."""
    review: int
    """Critical, or less confident than `review_below`."""


class Comparison(Section):
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


class ParitySection(Section):
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


class Provenance(Section):
    """What the results were made with."""

    bundle_sha256: str
    engine: EngineDescription
    batch_size: int
    batch_size_chosen: Literal["auto", "user"]
    rows_a_block: int
    tuned: str | None = None
    """What `cytodino-bench tune` had chosen; None where the engine was not chosen by it."""
    read: Mapping[str, str] = {}
    """What was said about how the archive is read; empty where it was found out."""
    review_below: float
    confidence: ConfidenceRule = ConfidenceRule()
    parity_sample: int | None
    """Cells asked for by `--parity live`; None in the other modes."""
    reference_sha256: str | None
    """Of the run's `run.json`, where a run was given."""
    versions: dict[str, str]
    files: Mapping[str, str] = {}
    """sha256 of each of the other result files."""


class RunSection(Section):
    """What differs from one run to the next."""

    started: datetime
    finished: datetime
    seconds: float
    crops_per_second: float
    """Of the crops that this run classified itself."""
    resumed_rows: int = 0
    """Rows that an interrupted run had done before."""
    shards: int | None = None
    """Parts that were merged; None where one run did it all."""
    host: str
    archive: PrintableText
    bundle: PrintableText


class Summary(Section):
    """The whole of `summary.json`."""

    schema_version: int = SCHEMA_VERSION
    archive: ArchiveSection
    counts: Counts
    differential: Differential
    parity: ParitySection
    review: Review
    confidence: ConfidenceSection | None = None
    """None in what an older version wrote."""
    provenance: Provenance
    run: RunSection

    @classmethod
    def read(cls, path: Path) -> "Summary | None":
        """Read a summary; None where there is none, or of another version.

        Raises
        ------
        OSError
            If the disk refuses.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

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
