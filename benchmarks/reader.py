"""Measure how fast crops are read, by storage, against slices of h5py and against Pillow.

Run ``python benchmarks/reader.py``; it takes some minutes, prints a table and replaces
``benchmarks/results/reader.json`` and the chart beside it. Rates are crops a second, of
250 x 250 x 3 bytes, of files that are in memory already. The reader checks every crop's checksum,
plain h5py checks nothing. In each round all ways take their turn; a rate is that of the fastest
turn, a ratio the median of the rounds' ratios, which a machine that others use too disturbs least.
"""

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click
import h5py
import hdf5plugin
import numpy as np
from PIL import Image

from cytodino.archive import Archive, open_archive, write_archive
from cytodino.cells import FolderCells, MemoryCells
from cytodino.errors import CropError
from cytodino.machine import describe_machine
from cytodino.synthetic import draw_cell
from cytodino.taxonomy import CODES
from cytodino_bench.result_charts import draw_reader, keep_result

RESULT = Path(__file__).parent / "results" / "reader.json"
SIDE = 250
BATCH = 64
DRAWN = 300
"""Crops that are drawn; the others repeat them, which no storage here can take advantage of."""
JPEG_QUALITY = 95
ROW = (1, SIDE, SIDE, 3)
GZIP = {"compression": "gzip", "compression_opts": 4}
BLOSC = dict(hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.BITSHUFFLE))

STORAGES: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "no filter": {"chunks": ROW},
    "fletcher32": {"chunks": ROW, "fletcher32": True},
    "lz4": {"chunks": ROW, **hdf5plugin.LZ4()},
    "zstd-3": {"chunks": ROW, **hdf5plugin.Zstd(clevel=3)},
    "blosc-lz4 + bitshuffle": {"chunks": ROW, **BLOSC},
    "lzf": {"chunks": ROW, "compression": "lzf"},
    "gzip-4": {"chunks": ROW, **GZIP},
    "gzip-4 + fletcher32": {"chunks": ROW, "fletcher32": True, **GZIP},
    "gzip-4, 8 crops a chunk": {"chunks": (8, *ROW[1:]), **GZIP},
    "gzip-4, h5py's automatic chunks": {"chunks": True, **GZIP},
}
"""Name -> options of h5py; all are one crop a chunk, but those that say otherwise."""

Way = Callable[[], None]


def draw_crops(n: int) -> list[np.ndarray]:
    """Draw cells of all classes from seeds."""
    drawn = [draw_cell(CODES[k % len(CODES)], seed=k, size=SIDE) for k in range(min(n, DRAWN))]
    return [drawn[k % len(drawn)] for k in range(n)]


def write_pixels(path: Path, crops: list[np.ndarray], options: dict[str, Any]) -> None:
    """Write an archive whose pixels are stored in a way of their own."""
    write_archive(path, MemoryCells(crops), encoding="raw")
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        del file["crops"]
        shape = (len(crops), *ROW[1:])
        payload = file.create_dataset("crops", shape, np.uint8, **options)
        for start in range(0, len(crops), 94):  # of whole chunks, the automatic ones too
            payload[start : start + 94] = np.stack(crops[start : start + 94])


def write_jpegs(path: Path, folder: Path, crops: list[np.ndarray]) -> None:
    """Write an archive of JPEG files."""
    folder.mkdir()
    for row, crop in enumerate(crops):
        Image.fromarray(crop).save(folder / f"{row:05d}.jpg", quality=JPEG_QUALITY)
    write_archive(path, FolderCells(folder), encoding="jpeg")


def slices(n: int) -> Iterable[tuple[int, int]]:
    """Cut rows into batches."""
    return ((start, min(start + BATCH, n)) for start in range(0, n, BATCH))


def read_by_reader(archive: Archive) -> None:
    """Read everything by the reader of this project."""
    for start, stop in slices(archive.n):
        assert not any(isinstance(crop, CropError) for crop in archive.read(start, stop))


def read_by_h5py(dataset: h5py.Dataset) -> None:
    """Read everything by slices of h5py."""
    for start, stop in slices(dataset.shape[0]):
        dataset[start:stop]


def read_by_pillow(file: h5py.File, pool: ThreadPoolExecutor | None) -> None:
    """Read the files of each batch at once, and decode them by Pillow."""
    offsets = file["offsets"][:].tolist()
    for start, stop in slices(len(offsets) - 1):
        first = offsets[start]
        data = file["bytes"][first : offsets[stop]].tobytes()
        files = [data[a - first : b - first] for a, b in pairwise(offsets[start : stop + 1])]
        list((map if pool is None else pool.map)(decode_by_pillow, files))


def decode_by_pillow(data: bytes) -> np.ndarray:
    """Decode one file the plain way."""
    return np.array(Image.open(io.BytesIO(data)))


def take_turns(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Time each way once a round; the seconds of all rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # fills caches, starts threads
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def summarise(seconds: dict[str, list[float]], n: int, base: str, two: str) -> dict[str, Any]:
    """Turn seconds into rates, and into the ratio of one way's to another's."""
    rates = {name: round(n / min(times)) for name, times in seconds.items()}
    turns = zip(seconds[base], seconds[two], strict=True)
    ratio = {"of": two, "to": base, "is": round(median(a / b for a, b in turns), 2)}
    return {"crops_per_second": rates, "ratio": ratio}


def measure_pixels(path: Path, rounds: int) -> dict[str, Any]:
    """Measure one storage of pixels."""
    with (
        h5py.File(path) as file,
        open_archive(path, threads=1) as one,
        open_archive(path, threads=2) as two,
    ):
        ways: dict[str, Way] = {
            "h5py": lambda: read_by_h5py(file["crops"]),
            "reader, 1 thread": lambda: read_by_reader(one),
            "reader, 2 threads": lambda: read_by_reader(two),
        }
        seconds = take_turns(ways, rounds)
        return summarise(seconds, one.n, "h5py", "reader, 2 threads")


def measure_jpegs(path: Path, rounds: int) -> dict[str, Any]:
    """Measure files against Pillow, with as many threads."""
    with (
        h5py.File(path) as file,
        open_archive(path, threads=1) as one,
        open_archive(path, threads=2) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        ways: dict[str, Way] = {
            "Pillow, 1 thread": lambda: read_by_pillow(file, None),
            "Pillow, 2 threads": lambda: read_by_pillow(file, pool),
            "reader, 1 thread": lambda: read_by_reader(one),
            "reader, 2 threads": lambda: read_by_reader(two),
        }
        seconds = take_turns(ways, rounds)
        return summarise(seconds, one.n, "Pillow, 2 threads", "reader, 2 threads")


def read_from_disk(path: Path) -> int:
    """Read an archive that memory does not hold, with two threads; crops a second."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    begun = time.perf_counter()
    with open_archive(path, threads=2) as archive:
        read_by_reader(archive)
        return round(archive.n / (time.perf_counter() - begun))


def show(name: str, found: dict[str, Any]) -> None:
    """Print a line of the table."""
    rates = "".join(f"{rate:10,}" for rate in found["crops_per_second"].values())
    ratio = found["ratio"]
    click.echo(f"{name:34}{found['mb']:7.0f} MB{rates}{ratio['is']:8.2f} x {ratio['to']}")


@click.command()
@click.option("--crops", "n", default=1500, show_default=True, help="Crops in each archive.")
@click.option("--rounds", default=5, show_default=True, help="Turns of each way.")
def main(n: int, rounds: int) -> None:
    """Measure, print and keep."""
    crops = draw_crops(n)
    found: dict[str, Any] = {"crops": n, "shape": ROW[1:], "rounds": rounds, "storages": {}}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "a.h5"
        click.echo(f"{'':34}{'':10}{'h5py':>10}{'reader 1':>10}{'reader 2':>10}")
        for name, options in STORAGES.items():
            write_pixels(path, crops, options)
            measured = measure_pixels(path, rounds)
            with h5py.File(path) as file:
                measured["mb"] = file["crops"].id.get_storage_size() / 1e6
            if name == "no filter":
                found["raw_from_disk"] = read_from_disk(path)
            found["storages"][name] = measured
            show(name, measured)
            path.unlink()
        write_jpegs(path, Path(scratch) / "files", crops)
        click.echo(f"{'':44}{'Pillow 1':>10}{'Pillow 2':>10}{'reader 1':>10}{'reader 2':>10}")
        name = f"JPEG, quality {JPEG_QUALITY}"
        measured = {**measure_jpegs(path, rounds), "mb": path.stat().st_size / 1e6}
        found["jpeg_from_disk"] = read_from_disk(path)
        found["storages"][name] = measured
        show(name, measured)
    click.echo(f"from disk: raw {found['raw_from_disk']:,}, JPEG {found['jpeg_from_disk']:,}")
    names = ("h5py", "hdf5plugin", "pillow", "deflate", "lz4", "zstandard", "simplejpeg")
    found["versions"] = {library: version(library) for library in names}
    found["machine"] = describe_machine().cpu
    keep_result(RESULT, found, draw_reader)


if __name__ == "__main__":
    main()
