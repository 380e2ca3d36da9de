"""What the user says about an archive that does not say it itself."""

from dataclasses import asdict, dataclass
from typing import Literal

StoredAs = Literal["nhwc", "nchw", "encoded"]
"""Pixels with the channels last or first, or the bytes of image files."""

ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How an archive is read; what is None is found out from the file, or the file is refused."""

    dataset: str | None = None
    """Name of the dataset that holds the crops, groups before it with slashes between."""
    layout: StoredAs | None = None
    """How that dataset stores a crop."""
    channel_order: ChannelOrder | None = None
    """Order of the colour channels; contradicts no attribute of the file."""
    labels: str | None = None
    """Name of the dataset with the class of each crop: codes, or numbers from 0 to 20."""
    ids: str | None = None
    """Name of the dataset with what each crop is called: text or whole numbers."""

    def given(self) -> dict[str, str]:
        """Return what the user said, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


NO_OPTIONS = ReadOptions()
