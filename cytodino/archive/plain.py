"""One dataset of crops in a file that nobody described: pixels, or the bytes of image files."""

from concurrent.futures import Executor
from pathlib import Path

import h5py
import numpy as np

from cytodino.archive.channels import ASSUMED, stated_order
from cytodino.archive.contents import describe, list_datasets, list_links
from cytodino.archive.encoded import MAX_ENCODED_BYTES
from cytodino.archive.hdf5 import elsewhere, find_dataset
from cytodino.archive.layout import Layout
from cytodino.archive.options import NO_OPTIONS, ReadOptions
from cytodino.archive.own import CHECKSUMS
from cytodino.archive.pixel_layout import Axes, PixelLayout, has_channels
from cytodino.archive.pixels import PixelRows, Row
from cytodino.errors import ArchiveError, CropError
from cytodino.images import decode_rgb

AXES: tuple[Axes, ...] = ("nhwc", "nchw")

ROWS_A_VISIT = 64

IN_THE_SLIDE = (
    "write the crops themselves: the pixels that these coordinates point to are in the slide file"
)


class PlainPixels(PixelLayout):
    """A dataset of uint8 with four dimensions, (n, h, w, 3) or (n, 3, h, w)."""

    name = "pixels"


class PlainFiles(Layout):
    """A dataset (n,) whose entries are the bytes of image files."""

    name = "image files"
    stored_as = "encoded"

    def __init__(self, file: h5py.File, path: Path, payload: h5py.Dataset) -> None:
        super().__init__(file, path, payload, payload.shape[0])
        self._rows = PixelRows(payload, path)
        self.how = f"{self._rows.how}, image files decoded in threads"

    def read(self, start: int, stop: int, pool: Executor | None) -> list[Row]:
        """Return rows ``start`` to ``stop``, decoded in the pool's threads."""
        return self._rows.read(start, stop, pool, self._decoded)

    def visit(self) -> None:
        """Read all of them: HDF5 looks each one up in a heap."""
        for start in range(0, self.n, ROWS_A_VISIT):
            self._rows.read(start, min(self.n, start + ROWS_A_VISIT), None, lambda entry, _: entry)

    def encoded(self, row: int) -> bytes:
        """Return the bytes of the file, or a PNG where the channels have to be put in order."""
        if self.channel_order == "bgr":
            return super().encoded(row)
        files: list[bytes] = []

        def keep(entry: np.ndarray, row: int) -> Row:
            fault = self._fault_of(data := _file_bytes(entry), row)
            files.append(data)
            return fault or entry

        (result,) = self._rows.read(row, row + 1, None, keep)
        if isinstance(result, CropError):
            raise result
        return files[0]

    def _decoded(self, entry: np.ndarray, row: int) -> Row:
        data = _file_bytes(entry)
        fault = self._fault_of(data, row)
        if fault is not None:
            return fault
        try:
            pixels = decode_rgb(data, self.path, row)
        except CropError as error:
            return error
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.channel_order == "bgr" else pixels

    def _fault_of(self, data: bytes, row: int) -> CropError | None:
        if len(data) > MAX_ENCODED_BYTES:
            return self.fault(f"is {len(data)} bytes long", row)
        return None if data else self.fault("is empty", row)


def find_plain(file: h5py.File, path: Path, options: ReadOptions) -> PlainPixels | PlainFiles:
    """Find the one dataset that can be crops, or the one that is named.

    Raises
    ------
    ArchiveError
        If there is none, or several, or it can be read in two ways; it lists what there is, and
        names the option that settles it.
    """
    if options.dataset is not None:
        payload = _named(file, path, options.dataset)
    else:
        payload = _only(file, path, options)
    if payload.name == "/crops" and CHECKSUMS in file:
        raise ArchiveError(
            f"has /{CHECKSUMS} as cytodino pack writes it, but lost the attribute format",
            where=path,
            mend="copy it again, or pack the images again",
        )
    if _holds_files(payload, named=options.dataset is not None):
        found: PlainPixels | PlainFiles = PlainFiles(file, path, payload)
        found.channel_order = stated_order(file, payload, path, options) or "rgb"
        return found
    axes = _axes(payload, path, options)
    order = stated_order(file, payload, path, options)
    found = PlainPixels(file, path, payload, axes=axes, order=order or "rgb")
    if order is None:
        found.notes = (ASSUMED,)
    return found


def _named(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    payload = find_dataset(file, path, name)
    if payload is None:
        raise ArchiveError(
            f"has no dataset {name}; it holds {describe(list_datasets(file, path))}",
            where=path,
            mend="name one of them: --dataset NAME",
        )
    return payload


def _only(file: h5py.File, path: Path, options: ReadOptions) -> h5py.Dataset:
    datasets = list_datasets(file, path)
    candidates = [dataset for dataset in datasets if _can_be_crops(dataset, options)]
    if len(candidates) > 1:
        raise ArchiveError(
            f"holds {len(candidates)} datasets that can be crops: {describe(candidates)}",
            where=path,
            mend="name the one to read: --dataset NAME",
        )
    if not candidates:
        raise _no_crops(file, path, datasets, options)
    found = find_dataset(file, path, candidates[0].name)
    assert found is not None, "the visit has just seen it"
    return found


def _can_be_crops(dataset: h5py.Dataset, options: ReadOptions) -> bool:
    if _holds_files(dataset, named=False):
        return options.layout in (None, "encoded")
    return any(has_channels(dataset, axes) for axes in AXES if options.layout in (None, axes))


def _holds_files(dataset: h5py.Dataset, *, named: bool) -> bool:
    """Tell whether entries are bytes: of variable length or opaque; text only where it is named."""
    if dataset.ndim != 1:
        return False
    element = h5py.check_vlen_dtype(dataset.dtype)
    if element is not None:
        return bool(element == np.uint8)
    kind = dataset.dtype
    opaque = kind.kind == "V" and kind.names is None and kind.subdtype is None
    return opaque or (named and dataset.dtype.kind == "S")


def _file_bytes(entry: np.ndarray) -> bytes:
    data = entry.tobytes()
    # Fixed lengths pad with zeros, which no JPEG or PNG file ends with.
    return data.rstrip(b"\0") if data[:1] in (b"\xff", b"\x89", b"\0") else data


def _axes(payload: h5py.Dataset, path: Path, options: ReadOptions) -> Axes:
    possible = [axes for axes in AXES if has_channels(payload, axes)]
    if options.layout is not None:
        possible = [axes for axes in possible if axes == options.layout]
    if len(possible) == 1:
        return possible[0]
    what = f"{payload.name} is {payload.dtype} {payload.shape}"
    if possible:
        raise ArchiveError(
            f"{what}: its channels can be first or last",
            where=path,
            mend="say which: --layout nhwc, or nchw",
        )
    asked = "" if options.layout is None else f", which --layout {options.layout} does not fit"
    raise ArchiveError(
        f"{what}{asked}",
        where=path,
        mend="give uint8 pixels, (n, h, w, 3) or (n, 3, h, w), or the bytes of image files",
    )


def _no_crops(
    file: h5py.File, path: Path, datasets: list[h5py.Dataset], options: ReadOptions
) -> ArchiveError:
    """Say why none of the datasets will do."""
    links = list_links(file, path)
    if links:
        return elsewhere(path, links[0])
    holds = f"it holds {describe(datasets)}"
    if any(_can_be_crops(dataset, NO_OPTIONS) for dataset in datasets):
        return ArchiveError(
            f"holds no crops that --layout {options.layout} fits; {holds}",
            where=path,
            mend="leave out --layout, or give another",
        )
    images = [dataset for dataset in datasets if dataset.ndim == 4]
    if images:
        return ArchiveError(
            f"holds no crops of uint8 with three channels; {holds}",
            where=path,
            mend="write them as 8-bit RGB; how other values map to it is not for a reader to guess",
        )
    if any(dataset.name.rsplit("/", 1)[-1].startswith("coords") for dataset in datasets):
        return ArchiveError(
            f"holds coordinates but no crops; {holds}", where=path, mend=IN_THE_SLIDE
        )
    return ArchiveError(
        f"holds no crops in a layout known here; {holds}",
        where=path,
        mend="write archives with cytodino pack",
    )
