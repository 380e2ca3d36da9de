"""Crops as pixels, one a chunk, each with its checksum: an archive of this project."""

from pathlib import Path
from typing import Self

import h5py

from cytodino.archive.options import ReadOptions
from cytodino.archive.own import TABLES, check_own, own_dataset
from cytodino.archive.pixel_layout import PixelLayout, has_channels
from cytodino.errors import ArchiveError


class RawLayout(PixelLayout):
    """``/crops``, uint8 (n, h, w, 3), RGB, and ``/crc32`` of each row's pixels."""

    name = "cytodino raw"
    tables = TABLES
    strict = True

    @classmethod
    def find(cls, file: h5py.File, path: Path, options: ReadOptions) -> Self | None:
        """Return the layout if the file is an archive of this project with ``/crops``."""
        payload = own_dataset(file, path, "crops", options)
        if payload is None:
            return None
        if not has_channels(payload, "nhwc"):
            raise ArchiveError(
                f"/crops is {payload.dtype} {payload.shape}, not uint8 (n, h, w, 3)",
                where=path,
                mend="pack the images again",
            )
        found = cls(file, path, payload)
        found.checksums = check_own(found, options)
        return found
