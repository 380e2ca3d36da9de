"""Single-cell images of scPortrait, ``.h5sc``.

The file is an AnnData file with ``/obsm/single_cell_images``, (n, channels, h, w): masks first,
then the channels of the image (MannLabs/scPortrait, ``io/h5sc.py``). Pixels are float16 from 0 to
1; uint8 is taken as it is.
"""

from pathlib import Path
from typing import Self

import h5py
import numpy as np

from cytodino.archive.channels import stated_order
from cytodino.archive.float_pixels import to_bytes
from cytodino.archive.hdf5 import find_dataset, reading
from cytodino.archive.layout import as_text
from cytodino.archive.options import ChannelOrder, ReadOptions
from cytodino.archive.pixel_layout import PixelLayout
from cytodino.archive.pixels import Row
from cytodino.errors import ArchiveError

DATASET = "obsm/single_cell_images"
IDS = ("obs/scportrait_cell_id", "obs/cell_id")
"""Since scPortrait 1.8, and before."""
STRETCHED = (
    "scPortrait stretched the brightness of each channel of each crop: these are not the colours "
    "of the slide"
)

NO_IDS = f"has neither /{IDS[0]} nor /{IDS[1]}: cells are called by their row; --ids NAME"

ORDERS: dict[tuple[str, ...], ChannelOrder] = {
    ("r", "g", "b"): "rgb",
    ("red", "green", "blue"): "rgb",
    ("b", "g", "r"): "bgr",
    ("blue", "green", "red"): "bgr",
}


class ScPortraitLayout(PixelLayout):
    """``/obsm/single_cell_images`` with exactly three image channels."""

    name = "scPortrait"
    _channels: slice

    @classmethod
    def find(cls, file: h5py.File, path: Path, options: ReadOptions) -> Self | None:
        """Return the layout if the file has what scPortrait writes."""
        if options.dataset is not None and options.dataset.strip("/") != DATASET:
            return None
        payload = find_dataset(file, path, DATASET)
        if payload is None or payload.ndim != 4:
            return None
        if payload.dtype not in (np.float16, np.float32, np.uint8):
            raise ArchiveError(
                f"{payload.name} is {payload.dtype}, and how that maps to 8 bits is not said",
                where=path,
                mend="write it as float16 from 0 to 1, or as uint8",
            )
        channels, names = _image_channels(payload, path)
        order = _decide(names, stated_order(file, payload, path, options), path)
        found = cls(file, path, payload, axes="nchw", order=order)
        found._channels = channels
        if payload.dtype != np.uint8 and bool(payload.attrs.get("normalization", False)):
            found.notes = (STRETCHED,)
        called = [name for name in IDS if name in file]
        found.tables = dict.fromkeys(("ids",), called[0]) if called else {}
        if not called and options.ids is None:
            found.notes += (NO_IDS,)
        return found

    def finish(self, pixels: np.ndarray, row: int) -> Row:
        """Take the image channels of a row, as uint8."""
        image = to_bytes(pixels[self._channels], white=1.0)
        return self.fault(image, row) if isinstance(image, str) else super().finish(image, row)


def _image_channels(payload: h5py.Dataset, path: Path) -> tuple[slice, list[str]]:
    """Find the three image channels, which lie together, and their names in lower case."""
    with reading(path, f"the attributes of {payload.name}"):
        mapping = _texts(payload.attrs.get("channel_mapping"))
        names = _texts(payload.attrs.get("channel_names"))
    at = [index for index, kind in enumerate(mapping) if kind == "image_channel"]
    if len(mapping) != payload.shape[1]:
        raise ArchiveError(
            f"{payload.name} has {payload.shape[1]} channels, and its attribute channel_mapping "
            f"tells {len(mapping)} of them",
            where=path,
            mend="write it again with scPortrait, or pack RGB crops of the slide",
        )
    if len(at) != 3 or at[-1] - at[0] != 2:
        raise ArchiveError(
            f"{payload.name} has {len(at)} image channels, not the three of a colour image",
            where=path,
            mend="extract the cells from a colour image, or pack RGB crops of the slide",
        )
    channels = slice(at[0], at[-1] + 1)
    return channels, [name.lower() for name in names[channels]]


def _decide(names: list[str], stated: ChannelOrder | None, path: Path) -> ChannelOrder:
    """Hold the names of the channels, the laboratory's own, against what is stated."""
    named = ORDERS.get(tuple(names))
    if named is not None and stated not in (None, named):
        raise ArchiveError(
            f"contradicts itself: its image channels are called {', '.join(names)}, "
            f"and the channel order is said to be {stated}",
            where=path,
            mend="leave out --channel-order, or correct the attribute",
        )
    order = named or stated
    if order is None:
        called = ", ".join(names) or "nothing"
        raise ArchiveError(
            f"its image channels are called {called}, which says no channel order",
            where=path,
            mend="say which they are: --channel-order rgb, or bgr",
        )
    return order


def _texts(values: object) -> list[str]:
    if not isinstance(values, np.ndarray):
        return []
    return [as_text(value) for value in values.tolist() if isinstance(value, bytes | str)]
