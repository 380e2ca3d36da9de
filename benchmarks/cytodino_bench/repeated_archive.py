"""Archives of any length from few cells, each repeated: written in seconds."""

import zlib
from pathlib import Path

import h5py
import numpy as np

from cytodino.archive.own import FORMAT
from cytodino.synthetic import draw_cell
from cytodino.taxonomy import CODES

__all__ = ["SIZE", "write_repeated"]

SIZE, DISTINCT = 250, 64
"""Side of a crop in pixels, and how many different ones there are."""


def write_repeated(path: Path, rows: int, *, gzip: bool, flat: bool = False) -> None:
    """Write an archive as `pack` does, one crop a chunk; few cells, each repeated.

    Parameters
    ----------
    path : Path
    rows : int
    gzip : bool
        gzip-4, or no filter.
    flat : bool
        Draw cells in few colours: the same pixels in memory, a tenth of them on disk.
    """
    generator = np.random.default_rng(0)
    cells = [draw_cell(CODES[at % len(CODES)], seed=generator, size=SIZE) for at in range(DISTINCT)]
    if flat:
        cells = [cell & np.uint8(0xC0) for cell in cells]
    chunks = [zlib.compress(cell.tobytes(), 4) if gzip else cell.tobytes() for cell in cells]
    sums = np.array([zlib.crc32(cell.tobytes()) for cell in cells], dtype=np.uint32)
    shape = (rows, SIZE, SIZE, 3)
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": np.bytes_(FORMAT), "version": 1, "slide": np.bytes_("S")})
        crops = file.create_dataset(
            "crops",
            shape,
            np.uint8,
            chunks=(1, *shape[1:]),
            compression="gzip" if gzip else None,
            compression_opts=4 if gzip else None,
        )
        for row in range(rows):
            crops.id.write_direct_chunk((row, 0, 0, 0), chunks[row % DISTINCT])
        file["crc32"] = np.resize(sums, rows)
        names = [f"patient-17/slide-3/cell-{row:08d}.png".encode() for row in range(rows)]
        file["ids"] = np.array(names, dtype=h5py.string_dtype("utf-8", len(names[0])))
        file["coords"] = np.arange(2 * rows).reshape(rows, 2)
