"""What a run of `cytodino-batch classify` is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from cytodino.archive.options import NO_OPTIONS, ReadOptions
from cytodino_batch.shards import Shard
from cytodino_batch.summary import ParityMode


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """The options of `classify`; their defaults are those of the command line."""

    archives: tuple[Path, ...]
    """Archives, folders of archives or glob patterns."""
    bundle: Path
    out: Path
    """Folder that gets one results folder an archive."""
    device: str = "auto"
    """auto, cpu or cuda."""
    engine: str = "auto"
    """auto, onnxruntime, openvino or pytorch; pytorch needs `reference`."""
    variant: str = "auto"
    """auto, fp32, bf16, fp16, int8 or int8-bf16; only what passed is used."""
    batch_size: int | None = None
    """Crops the engine gets together; None: found by measurement, or fixed with `shard`."""
    parity: ParityMode = "golden"
    """golden: on golden cells before the first crop; live: also on a sample of each archive."""
    parity_sample: int = 64
    """Rows that `live` samples from each archive."""
    reference: Path | None = None
    """The run that the bundle was exported from; needed by `live` and by the engine pytorch."""
    review_below: float | None = None
    """Confidence, 0 to 1, below which a cell is for review; None: the bundle's, else one half."""
    read: ReadOptions = NO_OPTIONS
    """What is said about the archives that they do not say themselves."""
    parquet: bool = False
    """Write `predictions.parquet` too; needs the extra `[parquet]`."""
    review_sheet: bool = False
    """Write `review.png` too: pictures of the worst cells for review."""
    dry_run: bool = False
    """Open and check everything, write nothing."""
    shard: Shard | None = None
    """Do this part of the work alone, for `merge` to put together."""
    restart: bool = False
    """Forget journals and finished results of the archives."""
