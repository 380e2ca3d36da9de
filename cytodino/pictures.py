"""Pictures for people to look at, drawn with Pillow alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cytodino.errors import InputError

_MARGIN = 6
"""Pixels between crops."""

_INK = (20, 20, 20)
_PAPER = (255, 255, 255)


def contact_sheet(
    crops: Sequence[npt.NDArray[np.uint8]], captions: Sequence[str], columns: int
) -> Image.Image:
    """Lay crops out in rows, each with a caption above it.

    Parameters
    ----------
    crops : uint8, each (h, w, 3), RGB; sizes may differ, each is laid at the top left of its place
    captions : str, one a crop; an empty one leaves the place blank
    columns : int, crops in a row, 1 or more

    Returns
    -------
    PIL.Image.Image, RGB

    Raises
    ------
    InputError
        If there is nothing to lay out, or crops and captions differ in number.
    """
    if not crops or columns < 1:
        raise InputError(
            f"{len(crops)} crops in {columns} columns",
            mend="give at least one crop and one column",
        )
    if len(crops) != len(captions):
        raise InputError(
            f"{len(crops)} crops but {len(captions)} captions", mend="give one caption a crop"
        )
    high = max(crop.shape[0] for crop in crops)
    wide = max(crop.shape[1] for crop in crops)
    font = ImageFont.load_default(size=max(11, high // 14))
    strip = round(font.getbbox("Ag")[3]) + 4
    rows = -(-len(crops) // columns)
    sheet = Image.new(
        "RGB",
        (columns * (wide + _MARGIN) + _MARGIN, rows * (high + strip + _MARGIN) + _MARGIN),
        _PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    for index, (crop, caption) in enumerate(zip(crops, captions, strict=True)):
        row, column = divmod(index, columns)
        x = _MARGIN + column * (wide + _MARGIN)
        y = _MARGIN + row * (high + strip + _MARGIN)
        pen.text((x, y), caption, fill=_INK, font=font)
        sheet.paste(Image.fromarray(crop), (x, y + strip))
    return sheet


def require_new_picture(path: Path) -> None:
    """Raise `InputError` if there is something at the path, before a picture is made for it."""
    if path.exists() or path.is_symlink():
        raise InputError("exists already", where=path, mend="choose another name or remove it")


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a new PNG, beside its place and then renamed.

    Raises
    ------
    InputError
        If there is something at the path already, or it cannot be written.
    """
    require_new_picture(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as beside:
            whole = Path(beside) / path.name
            picture.save(whole, format="PNG")
            whole.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})",
            where=path,
            mend="name a file in a place that has room and that you may write to",
        ) from error
