"""Crops as rows of pixels in one dataset."""

from concurrent.futures import Executor
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from cytodino.archive.layout import Layout
from cytodino.archive.options import ChannelOrder
from cytodino.archive.own import DAMAGED
from cytodino.archive.pixels import PixelRows, Row
from cytodino.errors import ArchiveError
from cytodino.images import MAX_SIDE, checksum

Axes = Literal["nhwc", "nchw"]


def has_channels(dataset: h5py.Dataset, axes: Axes) -> bool:
    """Tell whether a dataset is uint8 with three channels where these axes have them."""
    if dataset.dtype != np.uint8 or dataset.ndim != 4:
        return False
    return bool(dataset.shape[3 if axes == "nhwc" else 1] == 3)


class PixelLayout(Layout):
    """One dataset of four dimensions, crops first.

    Parameters
    ----------
    file, path : the open file
    payload : (n, h, w, channels) or (n, channels, h, w), found by `find_dataset`
    axes : which of the two
    order : of the three colour channels as they are stored
    """

    def __init__(
        self,
        file: h5py.File,
        path: Path,
        payload: h5py.Dataset,
        *,
        axes: Axes = "nhwc",
        order: ChannelOrder = "rgb",
    ) -> None:
        shape = payload.shape
        self._size: tuple[int, int] = shape[1:3] if axes == "nhwc" else shape[2:4]
        if not 1 <= min(self._size) <= max(self._size) <= MAX_SIDE:
            raise ArchiveError(
                f"{payload.name} declares crops of {self._size[1]} x {self._size[0]} px, "
                f"not 1 to {MAX_SIDE}",
                where=path,
                mend="write it again with single cells",
            )
        super().__init__(file, path, payload, shape[0])
        self.stored_as = axes
        self.channel_order = order
        self._rows = PixelRows(payload, path)
        self._fill = payload.fillvalue
        self.how = self._rows.how

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._size

    def read(self, start: int, stop: int, pool: Executor | None) -> list[Row]:
        """Return rows ``start`` to ``stop``."""
        return self._rows.read(start, stop, pool, self.finish)

    def finish(self, pixels: np.ndarray, row: int) -> Row:
        """Check a row as it is stored, and turn it into RGB pixels, uint8 (h, w, 3)."""
        if self.checksums is None:
            if self._is_unwritten(pixels):
                return self.fault(
                    f"holds nothing but {self._fill}, as rows do that were never written", row
                )
        elif checksum(pixels) != self.checksums[row]:
            return self.fault(DAMAGED, row)
        if self.stored_as == "nchw":
            pixels = pixels.transpose(1, 2, 0)
        if self.channel_order == "bgr":
            pixels = pixels[:, :, ::-1]
        return np.ascontiguousarray(pixels)

    def _is_unwritten(self, pixels: np.ndarray) -> bool:
        """Tell what no index does of rows that share a chunk or have none, and no cell looks like.

        The first pixel tells it of nearly all others.
        """
        return bool(pixels[0, 0, 0] == self._fill and (pixels == self._fill).all())
