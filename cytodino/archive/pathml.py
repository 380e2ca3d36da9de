"""Tiles of PathML, ``.h5path``.

Each tile is a group of its own, named by its coordinates: ``/tiles/(0, 256)/array``, float16
(h, w, 3), whole numbers from 0 to 255 (Dana-Farber-AIOS/pathml, ``core/h5managers.py``). PathML
reads the names back with ``eval``; here they are literals or nothing.
"""

import ast
from concurrent.futures import Executor
from pathlib import Path
from typing import Self

import h5py
import numpy as np

from cytodino.archive.channels import stated_order
from cytodino.archive.float_pixels import to_bytes
from cytodino.archive.hdf5 import FAULTS, find_dataset, reading, unwritten_rows
from cytodino.archive.layout import Layout, read_text
from cytodino.archive.options import ChannelOrder, ReadOptions
from cytodino.errors import ArchiveError, CropError
from cytodino.images import MAX_SIDE

MAX_NAME = 64
"""Characters of a tile's name that are parsed; coordinates are shorter."""


class PathmlLayout(Layout):
    """``/tiles/*/array``, a dataset a crop."""

    name = "PathML"
    stored_as = "nhwc"
    how = "a dataset a crop, by h5py"

    def __init__(self, file: h5py.File, path: Path, names: list[str], order: ChannelOrder) -> None:
        first = find_dataset(file, path, f"tiles/{names[0]}/array")
        if first is None:
            raise ArchiveError(f"/tiles/{names[0]} has no array", where=path)
        super().__init__(file, path, first, len(names))
        self._names = names
        self.channel_order = order

    @classmethod
    def find(cls, file: h5py.File, path: Path, options: ReadOptions) -> Self | None:
        """Return the layout if the file has what PathML writes."""
        if options.dataset is not None and options.dataset.strip("/") != "tiles":
            return None
        with reading(path, "/tiles"):
            ours = all(isinstance(file.get(name, getlink=True), h5py.HardLink) for name in GROUPS)
            if not ours or not all(isinstance(file[name], h5py.Group) for name in GROUPS):
                return None
            names = list(file["tiles"])  # in the order in which PathML numbers them
        if not names:
            raise ArchiveError(
                "holds no tile",
                where=path,
                mend="tile the slide with PathML and write the file again",
            )
        order = stated_order(file, file["tiles"], path, options)
        return cls(file, path, names, order or "rgb")

    @property
    def dataset(self) -> str:
        """Where in the file the crops are."""
        return "/tiles"

    @property
    def slide(self) -> str | None:
        """Name of the slide."""
        return super().slide or read_text(self.file["fields"], self.path, "name")

    @property
    def ids(self) -> list[str]:
        """Names of the tiles."""
        return self._names

    @property
    def coords(self) -> np.ndarray | None:
        """int64 (n, 2), x and y; PathML counts down first, then right."""
        parsed = [_parse(name) for name in self._names]
        pairs = [place for place in parsed if place is not None]
        if len(pairs) < self.n:
            return None
        return np.array([(right, down) for down, right in pairs], dtype=np.int64)

    def read(self, start: int, stop: int, pool: Executor | None) -> list[np.ndarray | CropError]:
        """Return rows ``start`` to ``stop``, turned into bytes in the pool's threads."""
        spread = map if pool is None else pool.map
        stored = [self._stored(row) for row in range(start, stop)]
        return list(spread(self._finish, stored, range(start, stop)))

    def visit(self) -> None:
        """Open every tile."""
        for name in self._names:
            find_dataset(self.file, self.path, f"tiles/{name}/array")

    def _stored(self, row: int) -> np.ndarray | CropError:
        name = f"tiles/{self._names[row]}/array"
        try:
            dataset = find_dataset(self.file, self.path, name)
            if dataset is None:
                return self.fault("has no array", row)
            shape, kind = dataset.shape, dataset.dtype.kind
            if len(shape) != 3 or shape[2] != 3 or not 1 <= min(shape) <= max(shape) <= MAX_SIDE:
                return self.fault(f"is an array {shape}, not (h, w, 3)", row)
            if dataset.dtype != np.uint8 and kind != "f":
                return self.fault(f"is {dataset.dtype}, not float16 or uint8", row)
            if unwritten_rows(dataset).any():
                return self.fault("was never written", row)
            return np.asarray(dataset[:])
        except ArchiveError as error:
            fault = self.fault(error.what, row)
            fault.__cause__ = error
        except FAULTS as error:
            fault = self.fault("its array is damaged", row)
            fault.__cause__ = error
        return fault

    def _finish(self, pixels: np.ndarray | CropError, row: int) -> np.ndarray | CropError:
        if isinstance(pixels, CropError):
            return pixels
        image = to_bytes(pixels, white=255.0)
        if isinstance(image, str):
            return self.fault(image, row)
        return np.ascontiguousarray(image[:, :, ::-1] if self.channel_order == "bgr" else image)


GROUPS = ("tiles", "fields")


def _parse(name: str) -> tuple[int, int] | None:
    if len(name) > MAX_NAME:
        return None
    try:
        place = ast.literal_eval(name)
    except (ValueError, SyntaxError):
        return None
    if not isinstance(place, tuple) or len(place) != 2:
        return None
    down, right = place
    fits = all(type(value) is int and abs(value) < 1 << 62 for value in (down, right))
    return (down, right) if fits else None
