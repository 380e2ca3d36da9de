"""What `cytodino pack` does: an image folder, or the part of it that a run set aside, to HDF5."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytodino.archive.options import NO_OPTIONS, ReadOptions
from cytodino.archive.writer import Compression, Encoding, Progress, Written, write_archive
from cytodino.cells import CellSource, open_cells
from cytodino.errors import CropError
from cytodino.images import is_jpeg, size_in_header

SAMPLE = 32
"""Crops that are looked at for being JPEG files."""


@dataclass(frozen=True)
class Packed:
    """What was written, for the person who reads it."""

    archive: Path
    cells: CellSource
    encoding: Encoding
    compression: Compression
    why: str
    """Why this encoding."""
    slide: str
    written: Written

    def lines(self) -> list[str]:
        """Say what was chosen, a sentence a line."""
        content = "the files' own bytes" if self.encoding == "jpeg" else "pixels"
        if self.compression != "none":
            content += f" compressed with {self.compression}"
        labels = self.cells.labels
        labelled = "unlabelled"
        if labels is not None:
            classes = len(np.unique(labels[labels >= 0]))
            labelled = f"{int(np.sum(labels >= 0))} labelled with {classes} of the 21 classes"
        crops = "1 crop" if len(self.cells) == 1 else f"{len(self.cells)} crops"
        lines = [
            f"{crops} of {describe_sizes(self.written.sizes)}, {labelled}",
            f"encoding {self.encoding} ({content}) {self.why}",
            f"a checksum a crop, slide {self.slide}, {self.archive.stat().st_size / 1e6:.1f} MB",
        ]
        if self.cells.passed_over:
            over = self.cells.passed_over
            what = "1 file that is no image" if over == 1 else f"{over} files that are no images"
            lines.append(f"passed over {what}")
        return lines


def pack(
    images: Path,
    archive: Path,
    *,
    encoding: Encoding | None = None,
    compression: Compression = "none",
    slide: str | None = None,
    run: Path | None = None,
    part: str | None = None,
    read: ReadOptions = NO_OPTIONS,
    progress: Progress | None = None,
) -> Packed:
    """Pack an image folder, or repack an archive.

    Parameters
    ----------
    images : the folder or archive
    archive : the new file
    encoding : by default what `choose_encoding` finds; raw where a compression is asked for
    compression, progress : as `write_archive` takes them
    slide : name of the slide; by default the folder's
    read : how an archive is read that does not say it itself
    run, part : take only the cells of this part of this run, in the order of the folder

    Raises
    ------
    InputError
        Or one of its kinds, if the images, the run or the target cannot be used.
    """
    cells = open_cells(images, read)
    if run is not None and part is not None:
        from cytodino.run import open_run

        cells = cells.subset(np.sort(open_run(run).rows(cells, part)))
    why = "as asked for"
    if encoding is None and compression != "none":
        encoding, why = "raw", f"for {compression}"
    elif encoding is None:
        encoding, why = choose_encoding(cells)
    written = write_archive(
        archive,
        cells,
        encoding=encoding,
        compression=compression,
        slide=slide,
        progress=progress,
    )
    return Packed(archive, cells, encoding, compression, why, slide or cells.slide, written)


def choose_encoding(cells: CellSource) -> tuple[Encoding, str]:
    """Choose what will be read fastest, and say why.

    JPEG files stay as they are: from a disk, the 18 kB of one are read and decoded faster than
    its 188 kB of pixels are read (`benchmarks/reader.py`), and nothing is lost. PNG and TIFF files
    are hardly shorter than their pixels and slow to decode, so pixels are written, which all have
    to be of one size.
    """
    sample = np.linspace(0, len(cells) - 1, min(len(cells), SAMPLE)).astype(int)
    try:
        if any(is_jpeg(cells.encoded(int(row))) for row in sample):
            return "jpeg", "because from a disk, JPEG files are read fastest as they are"
        if _of_one_size(cells):
            return "raw", "because pixels without compression are read fastest"
    except CropError:
        return "jpeg", "because not every crop can be read"  # which the writer says in full
    return "jpeg", "because the crops differ in size"


def _of_one_size(cells: CellSource) -> bool:
    sizes: set[tuple[int, ...] | None] = set()
    for row in range(len(cells)):
        # Only a folder has a file to look into; elsewhere the pixels are the cheaper thing to ask.
        folder = cells.kind == "folder"
        sizes.add(size_in_header(cells.encoded(row)) if folder else cells.read(row).shape[:2])
        if len(sizes) > 1:
            return False
    return True


def describe_sizes(sizes: dict[tuple[int, int], int], shown: int = 3) -> str:
    """Say which sizes occur, (height, width) -> count, the most frequent first."""
    ordered = sorted(sizes, key=lambda size: (-sizes[size], size))
    text = ", ".join(f"{width} x {height}" for height, width in ordered[:shown])
    more = len(ordered) - shown
    return f"{text} px" + (f" and {more} other sizes" if more > 0 else "")
