"""The confusion matrix as a picture: 21 x 21, readable without the numbers beside it.

Drawn with Pillow, which the base install has, so that an edge box can draw it too. One hue from
white to dark blue, and vermilion for critical errors: a pair that stays apart in every common
form of colour blindness (Okabe and Ito, Color Universal Design, 2008).
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cytodino.metrics import CRITICAL_AS_SAFE
from cytodino.taxonomy import CODES, N_CLASSES

__all__ = ["draw_confusion"]

CELL = 50
"""Side of one field, px: room for five digits at a legible size."""
LEFT, TOP, RIGHT, BOTTOM = 104, 150, 96, 74
"""Margins around the fields, px."""

INK = (32, 32, 32)
FAINT = (120, 120, 120)
GRID = (222, 222, 222)
EMPTY_ROW = (244, 244, 244)
DARKEST = np.array((8, 48, 107))
RED = (213, 94, 0)
"""Vermilion, the red of Okabe and Ito's palette."""
PALE_RED = (240, 180, 140)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_confusion(matrix: np.ndarray, *, title: str, subtitle: str = "") -> Image.Image:
    """Draw a confusion matrix.

    Shading is the share of the true class (each row sums to 1); the figure in a field is the count
    of cells. Fields in which a critical class is called safe are outlined in red.

    Parameters
    ----------
    matrix : integers, (21, 21), rows the true class, columns the predicted one
    title, subtitle : one line each, shortened where they do not fit

    Returns
    -------
    PIL.Image.Image, RGB, 1250 x 1274 px
    """
    side = CELL * N_CLASSES
    image = Image.new("RGB", (LEFT + side + RIGHT, TOP + side + BOTTOM), "white")
    draw = ImageDraw.Draw(image)
    support = matrix.sum(axis=1)  # (21,)
    shares = matrix / np.maximum(support, 1)[:, None]  # (21, 21)
    for row, column in np.ndindex(N_CLASSES, N_CLASSES):
        _field(draw, row, column, int(matrix[row, column]), float(shares[row, column]), support)
    # Outlines last: a neighbour's fill must not cover them.
    for row, column in np.argwhere(CRITICAL_AS_SAFE):
        _outline(draw, int(row), int(column), bool(matrix[row, column]))
    _axes(image, draw, matrix)
    _headings(draw, image.width, title, subtitle)
    _legend(draw)
    return image


def _field(
    draw: ImageDraw.ImageDraw, row: int, column: int, count: int, share: float, support: np.ndarray
) -> None:
    box = _box(row, column)
    fill = _shade(share) if support[row] else EMPTY_ROW
    draw.rectangle(box, fill=fill, outline=GRID)
    if count:
        text = str(count)
        font = _fitting(text, CELL - 8, 19)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        draw.text(middle, text, "white" if share > 0.35 else INK, font, anchor="mm")


def _outline(draw: ImageDraw.ImageDraw, row: int, column: int, occurred: bool) -> None:
    left, top, right, bottom = _box(row, column)
    if occurred:
        draw.rectangle((left, top, right, bottom), outline=RED, width=4)
    else:
        draw.rectangle((left + 2, top + 2, right - 2, bottom - 2), outline=PALE_RED, width=1)


def _axes(image: Image.Image, draw: ImageDraw.ImageDraw, matrix: np.ndarray) -> None:
    codes, small, names = _font(19), _font(16), _font(22)
    right, bottom = LEFT + CELL * N_CLASSES, TOP + CELL * N_CLASSES
    for index, code in enumerate(CODES):
        centre = CELL * index + CELL // 2
        draw.text((LEFT + centre, TOP - 8), code, INK, codes, anchor="mb")
        draw.text((LEFT - 10, TOP + centre), code, INK, codes, anchor="rm")
        support, predicted = int(matrix[index].sum()), int(matrix[:, index].sum())
        draw.text((right + 12, TOP + centre), str(support), FAINT, small, anchor="lm")
        text = str(predicted)
        draw.text(
            (LEFT + centre, bottom + 8), text, FAINT, _fitting(text, CELL - 4, 16), anchor="mt"
        )
    draw.text((right + 12, TOP - 8), "cells", FAINT, small, anchor="lb")
    draw.text((LEFT - 10, bottom + 8), "cells", FAINT, small, anchor="rt")
    draw.text((LEFT + CELL * N_CLASSES // 2, TOP - 34), "predicted class", INK, names, anchor="mb")
    _vertical_text(image, (30, TOP + CELL * N_CLASSES // 2), "true class", names)


def _vertical_text(image: Image.Image, centre: tuple[int, int], text: str, font: Font) -> None:
    left, top, right, bottom = font.getbbox(text)
    label = Image.new("RGB", (int(right - left) + 4, int(bottom - top) + 4), "white")
    ImageDraw.Draw(label).text((2 - left, 2 - top), text, INK, font)
    label = label.rotate(90, expand=True)
    image.paste(label, (centre[0] - label.width // 2, centre[1] - label.height // 2))


def _headings(draw: ImageDraw.ImageDraw, width: int, title: str, subtitle: str) -> None:
    for text, size, top, ink in ((title, 28, 14, INK), (subtitle, 19, 54, FAINT)):
        font = _font(size)
        draw.text((LEFT, top), _shortened(text, font, width - LEFT - 24), ink, font)


def _legend(draw: ImageDraw.ImageDraw) -> None:
    font, top = _font(16), TOP + CELL * N_CLASSES + 38
    steps, width = 101, 2
    draw.text((LEFT, top + 10), "share of the true class  0 %", FAINT, font, anchor="lm")
    left = LEFT + int(font.getlength("share of the true class  0 %")) + 10
    for step in range(steps):
        place = left + step * width
        draw.rectangle((place, top, place + width - 1, top + 19), fill=_shade(step / (steps - 1)))
    right = left + steps * width
    draw.rectangle((left, top, right, top + 19), outline=GRID)
    draw.text((right + 10, top + 10), "100 %", FAINT, font, anchor="lm")
    box = right + 110
    draw.rectangle((box, top, box + 19, top + 19), outline=RED, width=3)
    meaning = "critical class called safe (thin where it did not happen)"
    draw.text((box + 30, top + 10), meaning, FAINT, font, anchor="lm")


def _box(row: int, column: int) -> tuple[int, int, int, int]:
    left, top = LEFT + CELL * column, TOP + CELL * row
    return left, top, left + CELL, top + CELL


def _shade(share: float) -> tuple[int, int, int]:
    # The square root lifts small shares: 2 % of a class confused must not look like none.
    red, green, blue = np.rint(255 + (DARKEST - 255) * share**0.5).astype(int)
    return int(red), int(green), int(blue)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _fitting(text: str, width: int, size: int) -> Font:
    while size > 8 and _font(size).getlength(text) > width:
        size -= 1
    return _font(size)


def _shortened(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
