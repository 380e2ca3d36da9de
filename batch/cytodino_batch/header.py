"""What a journal, a shard or a finished result belongs to, and whether that is still the same."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from cytodino.calibration.file import ModelCalibration
from cytodino.limits import Limits
from cytodino.paths import PrintableText, Stamp
from cytodino_batch.confidence import ConfidenceRule
from cytodino_batch.plan import PREDICTIONS_PARQUET, REVIEW_SHEET
from cytodino_batch.shards import PlannedRows, Shard
from cytodino_batch.summary import ArchiveSection, ParitySection, Provenance, Summary


class Header(BaseModel):
    """Everything that finishing an archive takes, beside its blocks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    archive: ArchiveSection
    parity: ParitySection
    provenance: Provenance
    live_limits: Limits | None
    """What the engine may differ by on the sample of live parity."""
    calibration: ModelCalibration | None = None
    """The bundle's, for the variant and engine that run."""
    extras: tuple[str, ...]
    """Names of the files that are written beside the usual ones."""
    start: int
    stop: int
    """Rows of the archive that are done here, the last one not included."""
    shard: Shard | None = None
    plan: tuple[PlannedRows, ...] = ()
    """All archives of the run, where it was cut into shards."""
    started: datetime
    archive_path: PrintableText
    archive_stamp: Stamp | None = None
    """Of the archive when it was opened: what tells it from another until its hash is known."""
    bundle_path: PrintableText

    @classmethod
    def parse(cls, text: bytes) -> "Header | None":
        """Read what `text` gave; None where another version wrote it."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

    def with_digest(self, sha256: str) -> "Header":
        """Add the archive's hash."""
        archive = self.archive.model_copy(update={"sha256": sha256})
        return self.model_copy(update={"archive": archive})

    def text(self) -> bytes:
        """Give the header as JSON."""
        return self.model_dump_json().encode()


def key_changes(before: Header, now: Header) -> tuple[str, ...]:
    """Name what differs of all that a journal's blocks depend on, or that is asked of them.

    What is applied when an archive is finished, as `--review-below` and the temperature are to
    the logits that a journal holds, is part of it in shards
    alone: they are finished by `merge`, which goes by their headers.
    """
    return _differences(_work(before), _work(now))


def result_changes(before: Summary, now: Header) -> tuple[str, ...]:
    """Name what differs of all that finished results depend on."""
    return _differences(_result(before), _result(now))


def part_changes(before: Header, now: Header) -> tuple[str, ...]:
    """Name what differs between two shards of one archive that should not."""
    shared = {"the list of archives": before.plan, "the shards": before.shard and before.shard.of}
    other = {"the list of archives": now.plan, "the shards": now.shard and now.shard.of}
    return _differences(_result(before) | shared, _result(now) | other)


def listed(names: tuple[str, ...]) -> str:
    """Put at least one name into a sentence."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def differing(names: tuple[str, ...]) -> str:
    """Say that at least one name differs."""
    return f"{listed(names)} differ{'s' * (len(names) == 1)}"


def same_file(before: Header, now: Header) -> bool:
    """Tell whether the archive is by its file what it was; the number of a disk may change."""
    stamp, stamp_now = before.archive_stamp, now.archive_stamp
    return stamp is not None and stamp_now is not None and stamp[1:] == stamp_now[1:]


def _work(header: Header) -> dict[str, object]:
    key = _key(header.archive, header.provenance)
    if header.shard is not None:
        key = _result(header) | {"the list of archives": header.plan}
    return key | {"the rows": (header.shard, header.start, header.stop)}


def _result(made: Header | Summary) -> dict[str, object]:
    files = made.extras if isinstance(made, Header) else made.provenance.files
    return _key(made.archive, made.provenance) | {
        "--parquet": PREDICTIONS_PARQUET in files,
        "--review-sheet": REVIEW_SHEET in files,
        "--parity": made.parity.mode,
        "--parity-sample": made.provenance.parity_sample,
        "--reference": made.provenance.reference_sha256,
        "--review-below": made.provenance.review_below,
        "the calibration": _calibration(made.provenance.confidence),
    }


def _key(archive: ArchiveSection, provenance: Provenance) -> dict[str, object]:
    """Gather what the logits depend on."""
    engine = provenance.engine
    return {
        "the archive": (archive.sha256, archive.rows),
        "the bundle": provenance.bundle_sha256,
        "the engine": engine.engine,
        "the engine's version": engine.version,
        "the variant": engine.variant,
        "the device": (engine.device, engine.provider),
        "the engine's options": engine.options,
        "the batch size": (provenance.batch_size, provenance.rows_a_block),
        "how the archive is read": provenance.read,
    }


def _calibration(rule: ConfidenceRule) -> tuple[object, ...]:
    return rule.column, rule.temperature, rule.threshold_from == "bundle"


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name, value in now.items() if before[name] != value)
