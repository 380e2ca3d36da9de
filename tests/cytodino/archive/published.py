"""The same pixels in every layout that is read, by the h5py calls of the tools that write it."""

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from PIL import Image

from cytodino.archive import write_archive
from cytodino.cells import MemoryCells

Write = Callable[[Path, np.ndarray, list[bytes]], None]


def draw_jpegs(n: int, height: int = 24, width: int = 20, seed: int = 0) -> list[bytes]:
    """Draw JPEG files of different colours, of one size."""
    rng = np.random.default_rng(seed)
    files = []
    for _ in range(n):
        noise = rng.integers(0, 40, (height, width, 3))
        pixels = (rng.integers(20, 200, 3) + noise).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=95)
        files.append(buffer.getvalue())
    return files


def decode(files: list[bytes]) -> np.ndarray:
    """Decode files of one size: uint8 (n, h, w, 3)."""
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in files])


def write_clam(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
    """As CLAM: initialize_hdf5_bag, then savePatchIter_bag_hdf5 a patch."""
    first = crops[:1]
    with h5py.File(path, "w") as file:
        dset = file.create_dataset(
            "imgs",
            shape=first.shape,
            maxshape=(None, *first.shape[1:]),
            chunks=first.shape,
            dtype=first.dtype,
        )
        dset[:] = first
        dset.attrs["patch_level"] = 0
        dset.attrs["wsi_name"] = "TCGA-01"
        dset.attrs["downsample"] = (1.0, 1.0)
        dset.attrs["level_dim"] = (4000, 3000)
        dset.attrs["downsampled_level_dim"] = (4000, 3000)
        coord_dset = file.create_dataset(
            "coords", shape=(1, 2), maxshape=(None, 2), chunks=(1, 2), dtype=np.int32
        )
        coord_dset[:] = (0, 100)
    for number, crop in enumerate(crops[1:], start=1):
        with h5py.File(path, "a") as file:
            for name, value in (("imgs", crop[np.newaxis]), ("coords", (10 * number, 100))):
                file[name].resize(len(file[name]) + 1, axis=0)
                file[name][-1:] = value


def write_patch_camelyon(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=crops, compression="gzip")
        tumour = (np.arange(len(crops)) % 2).astype(np.uint8)
        file.create_dataset("y", data=tumour.reshape(-1, 1, 1, 1), compression="gzip")


def write_h5sc(
    path: Path, crops: np.ndarray, files: list[bytes], ids: str = "obs/scportrait_cell_id"
) -> None:
    """As scPortrait: numpy_to_h5sc, two masks before three image channels; 1.8 calls ids so."""
    n, height, width, _ = crops.shape
    masks = np.ones((n, 2, height, width))
    images = np.concatenate([masks, crops.transpose(0, 3, 1, 2) / 255], axis=1)
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "anndata"
        file.create_dataset(ids, data=np.arange(100, 100 + n, dtype=np.uint64))
        container = file.create_dataset(
            "obsm/single_cell_images",
            shape=images.shape,
            chunks=(1, 1, height, width),
            compression="lzf",
            dtype=np.float16,
        )
        container.attrs["n_masks"] = 2
        container.attrs["n_image_channels"] = 3
        names = ["seg_nucleus", "seg_cytosol", "Red", "Green", "Blue"]
        container.attrs["channel_names"] = np.array([name.encode() for name in names])
        mapping = ["mask"] * 2 + ["image_channel"] * 3
        container.attrs["channel_mapping"] = np.array([kind.encode() for kind in mapping])
        container[:] = images.astype(np.float16)


def write_h5path(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
    """As PathML: h5pathManager.add_tile; tiles are numbered in the order of their names."""
    with h5py.File(path, "w") as file:
        fields = file.create_group("fields")
        fields.attrs["name"] = "CMU-1.svs"
        fields.create_group("labels").attrs["organ"] = "marrow"
        fields.create_group("slide_type").attrs["stain"] = "HE"
        tiles = file.create_group("tiles")
        tiles.attrs["tile_shape"] = str(crops.shape[1:]).encode("utf-8")
        tiles.attrs["tile_stride"] = b"(24, 20)"
        file.create_group("masks")
        file.create_group("counts")
        for number, crop in enumerate(crops):
            coords = (24, 1000 + 20 * number)
            tile = tiles.create_group(str(coords))
            tile.create_dataset(
                "array",
                data=crop,
                chunks=True,
                compression="gzip",
                compression_opts=5,
                shuffle=True,
                dtype="float16",
            )
            tile.attrs["coords"] = str(coords)
            tile.attrs["name"] = "None"
            tile.create_group("labels")


def write_files(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
    with h5py.File(path, "w") as file:
        kind = h5py.vlen_dtype(np.uint8)
        images = file.create_dataset("images", shape=(len(files),), dtype=kind)
        for row, data in enumerate(files):
            images[row] = np.frombuffer(data, dtype=np.uint8)


def write_opaque(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = np.array(files, dtype=f"V{max(map(len, files))}")


def write_png(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
    def encode(crop: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(crop).save(buffer, format="PNG")
        return buffer.getvalue()

    write_files(path, crops, [encode(crop) for crop in crops])


def plain(**options: object) -> Write:
    """Write the pixels as one dataset with these parameters of h5py."""

    def write(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("images", data=crops, **options)

    return write


def write_nchw(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
    plain(chunks=True)(path, np.ascontiguousarray(crops.transpose(0, 3, 1, 2)), files)


def write_nested(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("slide/level0/cells", data=crops, compression="gzip")
        file["slide/level0/area"] = np.arange(len(crops))


def write_bgr(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = crops[..., ::-1]
        file.attrs["channel_order"] = "BGR"


def own(encoding: str, compression: str = "none") -> Write:
    """Write an archive of this project."""

    def write(path: Path, crops: np.ndarray, files: list[bytes]) -> None:
        cells = MemoryCells(list(crops), slide="S-7")
        write_archive(path, cells, encoding=encoding, compression=compression)

    return write


ONE_A_CHUNK = (1, 24, 20, 3)

WRITERS: dict[str, Write] = {
    "own raw": own("raw"),
    "own gzip": own("raw", "gzip"),
    "own encoded": own("jpeg"),
    "CLAM": write_clam,
    "PatchCamelyon": write_patch_camelyon,
    "h5sc": write_h5sc,
    "h5path": write_h5path,
    "variable-length JPEG": write_files,
    "variable-length PNG": write_png,
    "opaque JPEG": write_opaque,
    "NCHW": write_nchw,
    "contiguous": plain(),
    "gzip, automatic chunks": plain(compression="gzip", chunks=True),
    "gzip + shuffle, one a chunk": plain(compression="gzip", shuffle=True, chunks=ONE_A_CHUNK),
    "gzip + fletcher32": plain(compression="gzip", fletcher32=True, chunks=ONE_A_CHUNK),
    "zstd": plain(**hdf5plugin.Zstd(clevel=3), chunks=ONE_A_CHUNK),
    "lz4": plain(**hdf5plugin.LZ4(), chunks=ONE_A_CHUNK),
    "blosc": plain(**hdf5plugin.Blosc(cname="lz4", shuffle=2), chunks=ONE_A_CHUNK),
    "lzf": plain(compression="lzf", chunks=ONE_A_CHUNK),
    "nested": write_nested,
    "BGR": write_bgr,
}
