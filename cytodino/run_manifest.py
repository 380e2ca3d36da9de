"""`run.json`: what a run is, where it came from, and how it did; no torch."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cytodino.metrics import Scores
from cytodino.paths import PrintableText
from cytodino.recipe import Recipe, Tune
from cytodino.taxonomy import CODES, require_order

SCHEMA = 3
"""1: three parts, no tables of groups or splits, plain recipe. 2: no hashes of the run's own files.
Such runs are read as they are."""
SCHEMA_OF_FILES = 3
"""From which on a run says what its files hold."""
MANIFEST = "run.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneRecord(_Record):
    """Which DINOv3 the run stands on, and how to tell it from another."""

    source: PrintableText
    """As it was asked for: Hub id, folder, run, or the name of a configuration."""
    kind: Literal["hub", "folder", "run", "random"]
    stored: bool
    """True if the weights lie in the run's own `backbone/`."""
    revision: str | None = None
    """Commit on the Hub, for kind hub."""
    path: PrintableText | None = None
    """Absolute, for kinds folder and run (None in older records of a run): what `source` named. A
    folder's weights are read from there, unless stored."""
    sha256: dict[str, str]
    """Of `config.json` and every file of weights, by name; checked whenever they are loaded."""


class LoraRecord(_Record):
    """The adapter in `adapter/`."""

    rank: int
    alpha: int
    dropout: float


class HeadRecord(_Record):
    """The shape of the decoder head in `head.safetensors`."""

    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    """A divisor of `hidden`."""
    feedforward: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _share_the_width(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads cannot share a width of {self.hidden}")
        return self


class DataRecord(_Record):
    """The cells that were trained on."""

    path: PrintableText
    """Absolute."""
    kind: Literal["folder", "archive"]
    fingerprint: str
    """See `CellSource.fingerprint`: the same cells give the same one."""
    n: int


class TableRecord(_Record):
    """A table that decided which cell went where."""

    path: PrintableText
    """Absolute."""
    sha256: str
    part: str | None = None
    """The part whose images it names; None where the table says it line by line."""


class SplitRecord(_Record):
    """How the cells were divided; which cell went where stands in `split.csv`."""

    seed: int
    fractions: dict[str, float]
    """Share asked for, by part."""
    rule: str
    """What was done with classes too small for all parts."""
    counts: dict[str, dict[str, int]]
    """Cells by part and class code."""
    groups: TableRecord | None = None
    """Patients or slides that were kept whole."""
    files: tuple[TableRecord, ...] = ()
    """Fixed splits that were followed."""


class ImportRecord(_Record):
    """Where a run came from that was not trained here."""

    file: PrintableText
    """Name of the checkpoint, without its folder."""
    sha256: str
    source: str
    """Who writes checkpoints of this form."""


class PartMetrics(_Record):
    """What the finished model scores on one part."""

    loss: float
    """Mean cross-entropy, nats."""
    scores: Scores


class EpochRecord(_Record):
    """One line of the training's course."""

    epoch: int
    """From 1."""
    train_loss: float
    """Mean over the epoch; over what was left of it where training went on within it."""
    validation_loss: float
    weighted_f1: float
    """On the validation part, as are macro F1 and accuracy."""
    macro_f1: float
    accuracy: float


class RunManifest(_Record):
    """`run.json`."""

    schema_version: int = SCHEMA
    created: datetime
    """UTC."""
    classes: tuple[str, ...] = CODES
    """In the order of the logits."""
    image_size: int = Field(ge=16)
    """Side of the square the model sees, pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tune: Tune
    backbone: BackboneRecord
    lora: LoraRecord | None
    head: HeadRecord
    recipe: Recipe | None
    """None, as are data, split and best epoch, for a run that was imported."""
    data: DataRecord | None
    split: SplitRecord | None
    imported: ImportRecord | None = None
    parameters: tuple[int, int]
    """How many were trained, of how many."""
    best_epoch: int | None
    """From 1; the highest weighted F1 on the validation part."""
    history: tuple[EpochRecord, ...]
    metrics: dict[str, PartMetrics]
    """Of the best epoch, by part: validation, and test, which is looked at once, at the end."""
    seconds: float
    """Wall time of the training; of one that was interrupted, since it last went on."""
    device: str
    versions: dict[str, str]
    """Of Python, CytoDINO and the libraries that took part."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of head, adapter and split, by name in the folder; checked whenever it is opened."""

    @field_validator("classes")
    @classmethod
    def _known_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        require_order(value, where=MANIFEST)
        return value
