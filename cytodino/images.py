"""Image files: finding them in a folder, and decoding one to RGB pixels.

Only 8-bit RGB is taken. A grey, palette, CMYK or four-channel image is refused rather than
converted: what it was before somebody changed its channels is not known, and the model would
classify the guess.
"""

import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import deflate
import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from cytodino.errors import CropError, InputError, MissingPathError
from cytodino.jpeg import decode_jpeg
from cytodino.taxonomy import CODES, unknown_classes

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
"""File names that count as images, compared in lower case."""

SYSTEM_FOLDERS = frozenset({"__macosx", "lost+found", "system volume information", "$recycle.bin"})
"""What systems put on a disk, some of it for nobody to list; compared in lower case."""

MAX_SIDE = 1024
"""Pixels; a crop of one cell is a few hundred. Checked from the header, before decoding, which it
keeps from taking all memory: hundreds of crops are decoded together, and a file of 3 MB can hold
64 of 4096 x 4096 black pixels, 3.2 GB."""

MEND = "save it as 8-bit RGB"

_BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8
_READ_FAULTS = (
    OSError,  # truncated or broken data stream; UnidentifiedImageError is one of them
    SyntaxError,  # Pillow's word for a header that is not of the format
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,  # an ancillary chunk that inflates without end
)
_CHANNELS = {
    "1": "is a grey image",
    "L": "is a grey image",
    "LA": "is a grey image with transparency",
    "La": "is a grey image with transparency",
    "I": "is a grey image of more than 8 bits",
    "F": "is a grey image of more than 8 bits",
    "P": "is a palette image",
    "PA": "is a palette image",
    "CMYK": "has 4 channels (CMYK)",
    "RGBA": "has 4 channels (RGBA)",
    "RGBa": "has 4 channels (RGBA)",
    "RGBX": "has 4 channels (RGBX)",
}
# Pillow warns about odd TIFF metadata; the filters that silence it belong to the whole process,
# so only one thread at a time may change them.
_TIFF_LOCK = threading.Lock()


@dataclass(frozen=True)
class FolderScan:
    """The images of a folder, in the order of their ids."""

    path: Path
    ids: list[str]
    """Path of each file below the folder, with forward slashes, sorted."""
    labels: np.ndarray | None
    """int64 (n,), class index of each file; None where the images lie in no class folder."""
    passed_over: int
    """Files that are neither hidden nor images."""


def scan_folder(path: Path) -> FolderScan:
    """Find the images of ``CLASS/.../*.jpg`` folders, or of one flat folder without classes.

    What `walk_files` passes over is, and so are files whose suffix is not one of `SUFFIXES`.

    Raises
    ------
    MissingPathError
        If the folder is not there.
    InputError
        If it holds no image, or images both in class folders and outside them.
    TaxonomyError
        If a folder with images in it is named by none of the 21 codes; all such are listed.
    """
    if not path.exists():
        raise MissingPathError(path)
    if not path.is_dir():
        raise InputError("is not a folder", where=path, mend="name a folder of images")
    found = list(walk_files(path))
    ids = sorted(name for name in found if os.path.splitext(name)[1].lower() in SUFFIXES)
    _check_names(path, ids)
    if not ids:
        raise InputError(
            "holds no image",
            where=path,
            mend=f"put images ({' '.join(sorted(SUFFIXES))}) into folders named by class, "
            f"such as {CODES[3]}/",
        )
    folders = {id_.split("/", 1)[0] for id_ in ids if "/" in id_}
    at_root = [id_ for id_ in ids if "/" not in id_]
    if not folders:
        return FolderScan(path, ids, None, len(found) - len(ids))
    _check_classes(path, folders)
    if at_root:
        raise InputError(
            f"holds images beside the class folders: {_some(at_root)}",
            where=path,
            mend="move them into the folder of their class, or elsewhere",
        )
    index = {code: position for position, code in enumerate(CODES)}
    labels = np.array([index[id_.split("/", 1)[0]] for id_ in ids], dtype=np.int64)
    return FolderScan(path, ids, labels, len(found) - len(ids))


def walk_files(folder: Path) -> Iterator[str]:
    """Yield the files below a folder, in no order, as paths below it with forward slashes.

    Links to folders are followed, loops are not; a link to nothing or to itself is yielded, for
    somebody meant it to be there. Hidden entries and `SYSTEM_FOLDERS` are passed over. `InputError`
    where a folder cannot be listed.
    """
    return _walk(folder, "", frozenset())


def decode_rgb(data: bytes, where: Path | str | None = None, row: int | None = None) -> np.ndarray:
    """Decode the bytes of one JPEG, PNG, TIFF or BMP file.

    Parameters
    ----------
    data : the file's bytes
    where : the file or archive, for the error
    row : the row of the archive, for the error

    Returns
    -------
    uint8, (h, w, 3), RGB, writable, as stored: an EXIF orientation is not applied.

    Raises
    ------
    CropError
        If the bytes are no such image, are damaged, are not 8-bit RGB, hold several frames, or
        are larger than `MAX_SIDE`.
    """
    try:
        if data[:4] in (b"II*\0", b"MM\0*"):
            with _TIFF_LOCK, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _decode(data, TiffImagePlugin.TiffImageFile, where, row)
        return _decode(data, _reader(data, where, row), where, row)
    except _READ_FAULTS as error:
        reason = "is truncated" if "truncated" in str(error).lower() else "is damaged"
        raise CropError(
            f"{reason} and cannot be decoded", where=where, row=row, mend="replace or remove it"
        ) from error


def is_jpeg(data: bytes) -> bool:
    """Tell whether these are the bytes of a JPEG file."""
    return data[:3] == b"\xff\xd8\xff"


def size_in_header(data: bytes) -> tuple[int, int] | None:
    """Return height and width in pixels without decoding; None where the header is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            with Image.open(io.BytesIO(data)) as image:
                return image.height, image.width
    except _READ_FAULTS:
        return None


def encode_png(pixels: np.ndarray) -> bytes:
    """Return uint8 RGB pixels, (h, w, 3), as the bytes of a PNG file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def checksum(pixels: np.ndarray) -> int:
    """Return the crc32 of an array's values in C order."""
    return deflate.crc32(np.ascontiguousarray(pixels).data)


def _reader(data: bytes, where: Path | str | None, row: int | None) -> type[ImageFile.ImageFile]:
    # Image.open would also try every other format that Pillow or a plugin knows, and warns.
    if is_jpeg(data):
        return JpegImagePlugin.JpegImageFile
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return PngImagePlugin.PngImageFile
    if data[:2] == b"BM":
        return BmpImagePlugin.BmpImageFile
    reason = "is no JPEG, PNG, TIFF or BMP image" if data else "is empty"
    raise CropError(reason, where=where, row=row, mend="replace or remove it")


def _decode(
    data: bytes, reader: type[ImageFile.ImageFile], where: Path | str | None, row: int | None
) -> np.ndarray:
    if reader is PngImagePlugin.PngImageFile and b"acTL" in data[: max(data.find(b"IDAT"), 0)]:
        raise CropError("is an animation", where=where, row=row, mend="save a single picture")
    with reader(io.BytesIO(data)) as image:
        fault = _header_fault(image, data)
        if fault is not None:
            mend = MEND if max(image.size) <= MAX_SIDE else "cut single cells out of it"
            raise CropError(fault, where=where, row=row, mend=mend)
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            pixels = decode_jpeg(image, data)
            if pixels is not None:
                return pixels
        image.load()
        return np.array(image)  # (h, w, 3)


def _header_fault(image: ImageFile.ImageFile, data: bytes) -> str | None:
    width, height = image.size
    if width < 1 or height < 1:
        return "has no pixels"
    if max(width, height) > MAX_SIDE:
        return f"is {width} x {height} px, more than {MAX_SIDE} on a side"
    if image.mode.startswith("I;16"):
        return "is a grey image of more than 8 bits"
    if image.mode != "RGB":
        return _CHANNELS.get(image.mode, f"has the colours {image.mode}")
    bits: tuple[int, ...] = (8,)
    if isinstance(image, PngImagePlugin.PngImageFile):
        bits = (data[24],)  # bit depth in IHDR, which is always the first chunk
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.n_frames > 1:
            return f"holds {image.n_frames} pictures"
        bits = tuple(image.tag_v2.get(_BITS_PER_SAMPLE, bits))
    return None if max(bits) <= 8 else f"has {max(bits)} bits a channel"


def _walk(folder: Path, below: str, ancestors: frozenset[tuple[int, int]]) -> Iterator[str]:
    try:
        status = folder.stat()
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not _hidden(entry.name)]
    except OSError as error:
        raise InputError(
            f"cannot be listed ({error.strerror})",
            where=folder,
            mend="give yourself the right to read it, or name what is below it",
        ) from error
    here = (status.st_dev, status.st_ino)
    if here in ancestors:
        return
    for entry in entries:
        kind = _kind(entry)
        if kind == "folder":
            yield from _walk(folder / entry.name, f"{below}{entry.name}/", ancestors | {here})
        elif kind == "file":
            yield below + entry.name


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "file", "other"]:
    try:
        if entry.is_dir():
            return "folder"
        # A pipe would be waited for.
        return "file" if entry.is_file() or entry.is_symlink() else "other"
    except OSError:  # a link to itself, say: whoever opens it says so, of it alone
        return "file"


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _check_names(path: Path, ids: list[str]) -> None:
    for id_ in ids:
        try:
            id_.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"holds a file whose name is not UTF-8: {ascii(id_)}", where=path, mend="rename it"
            ) from error


def _check_classes(path: Path, folders: set[str]) -> None:
    unknown = sorted(folders.difference(CODES))
    if not unknown:
        return
    for name in unknown:
        inside = [entry.name for entry in os.scandir(path / name) if entry.is_dir()]
        if len(folders) == 1 and set(inside) & set(CODES):
            raise InputError(
                f"has its class folders one level down, in {name}",
                where=path,
                mend=f"name {path / name} instead",
            )
    raise unknown_classes(unknown, where=str(path))


def _some(names: list[str], shown: int = 5) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
