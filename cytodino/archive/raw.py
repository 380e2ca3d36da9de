"""Crops as pixels, one a chunk."""

from concurrent.futures import Executor
from pathlib import Path
from typing import Self

import h5py
import numpy as np

from cytodino.archive.layout import DAMAGED, Layout, own_dataset
from cytodino.archive.pixels import PixelRows
from cytodino.errors import ArchiveError, CropError
from cytodino.images import MAX_SIDE, checksum, encode_png


class RawLayout(Layout):
    """``/crops``, uint8 (n, h, w, 3), RGB."""

    name = "cytodino raw"
    encoded_files = False

    def __init__(self, file: h5py.File, path: Path, payload: h5py.Dataset) -> None:
        shape = payload.shape
        if payload.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise ArchiveError(
                f"/crops is {payload.dtype} {shape}, not uint8 (n, h, w, 3)",
                where=path,
                mend="pack the images again",
            )
        if not 1 <= min(shape[1:3]) <= max(shape[1:3]) <= MAX_SIDE:
            raise ArchiveError(
                f"/crops declares crops of {shape[1]} x {shape[2]} px, not 1 to {MAX_SIDE}",
                where=path,
                mend="pack the images again",
            )
        super().__init__(file, path, payload, shape[0])
        self._pixels = PixelRows(payload, path)

    @classmethod
    def find(cls, file: h5py.File, path: Path) -> Self | None:
        """Return the layout if the file is an archive of this project with ``/crops``."""
        payload = own_dataset(file, path, "crops")
        return None if payload is None else cls(file, path, payload)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.payload.shape[1], self.payload.shape[2]

    def read(self, start: int, stop: int, pool: Executor | None) -> list[np.ndarray | CropError]:
        """Return rows ``start`` to ``stop``."""
        return self._pixels.read(start, stop, pool, self._checked)

    def encoded(self, row: int) -> bytes:
        """Return one row as a PNG file."""
        pixels = self.read(row, row + 1, None)[0]
        if isinstance(pixels, CropError):
            raise pixels
        return encode_png(pixels)

    def _checked(self, pixels: np.ndarray, row: int) -> np.ndarray | CropError:
        if checksum(pixels) != self.checksums[row]:
            return self.fault(DAMAGED, row)
        return pixels
