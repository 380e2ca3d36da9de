"""Cells drawn one by one, and written as an image folder the way the published set is."""

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cytodino.errors import InputError
from cytodino.paths import whole_folder
from cytodino.pictures import contact_sheet, write_picture
from cytodino.synthetic.canvas import Canvas
from cytodino.synthetic.classes import MORPHOLOGY
from cytodino.synthetic.scene import draw_scene
from cytodino.synthetic.shapes import FIELD, grid_of
from cytodino.synthetic.stain import Pixels, Slide, develop, draw_slide
from cytodino.taxonomy import CLASSES, CODES, index_of

MIN_SIZE = 32
"""Side of the smallest crop, pixels: below it granules are lost."""

MAX_SIZE = 1024
"""Side of the largest crop, pixels: beyond it nothing is gained over a magnified crop."""

MAX_CELLS = 99_999
"""Cells of a class: the names of the published set have five digits."""

SLIDES = 8
"""Slides of one set, so that whole slides can be kept for testing."""

_FOLDER = 1000
"""Cells in one folder of the published set."""

_SLIDE_STREAM = 1
_CELL_STREAM = 2


def draw_cell(
    code: str,
    *,
    seed: int | np.random.Generator = 0,
    size: int = 250,
    stain: str = "a",
    slide: Slide | None = None,
) -> Pixels:
    """Draw one cell.

    Parameters
    ----------
    code : str, one of the 21 class codes
    seed : int or Generator
        The same seed draws the same cell, down to the byte.
    size : int, side of the crop, pixels, 32 to 1024
    stain : str, profile ``a`` or ``b``
    slide : Slide, optional
        The slide that the cell lies on; without it one is drawn for this cell alone.

    Returns
    -------
    uint8, (size, size, 3), RGB

    Raises
    ------
    TaxonomyError
        If the code is not one of the 21.
    InputError
        If the size is out of bounds, or there is no such stain.
    """
    index_of(code)
    _require_size(size)
    rng = np.random.default_rng(seed)
    if slide is None:
        slide = draw_slide(stain, rng)
    rows = MORPHOLOGY[code]
    row = rows[int(rng.integers(len(rows)))]
    canvas = Canvas(grid_of(size * 2 if size < 160 else size))
    draw_scene(canvas, row, rng, tint=slide.tint)
    return develop(canvas.dyes, slide, rng, size=size, blur=canvas.defocus, pixel=FIELD / size)


def draw_set(
    code: str, cells: int, *, size: int, stain: str, seed: int, slides: int = SLIDES
) -> Iterator[tuple[int, int, Pixels]]:
    """Yield (number, slide, crop) of the first cells of a class, as `write_slides` writes them.

    A cell depends on the seed, its class and its number alone, never on how many there are.
    """
    drawn = [
        draw_slide(stain, np.random.default_rng([seed, _SLIDE_STREAM, number]))
        for number in range(slides)
    ]
    for number in range(cells):
        rng = np.random.default_rng([seed, _CELL_STREAM, index_of(code), number])
        which = number % slides
        yield number, which, draw_cell(code, seed=rng, size=size, slide=drawn[which])


def draw_sheet(
    *, size: int = 250, stain: str = "a", seed: int = 0, slides: int = SLIDES, cells: int = 5
) -> Image.Image:
    """Return a contact sheet: the first cells of every class, with its code and name."""
    _require_size(size)
    crops: list[Pixels] = []
    captions: list[str] = []
    for cell in CLASSES:
        drawn = draw_set(cell.code, cells, size=size, stain=stain, seed=seed, slides=slides)
        crops += [crop for _, _, crop in drawn]
        captions += [f"{cell.code}  {cell.name}"] + [""] * (cells - 1)
    return contact_sheet(crops, captions, cells)


def write_sheet(path: Path, *, size: int = 250, stain: str = "a", seed: int = 0) -> None:
    """Write the contact sheet of `draw_sheet` as a PNG, beside its place and then renamed.

    Raises
    ------
    InputError
        If there is something at the path already, or it cannot be written.
    """
    write_picture(draw_sheet(size=size, stain=stain, seed=seed), path)


def write_slides(
    out: Path,
    *,
    cells_per_class: int = 20,
    size: int = 250,
    stain: str = "a",
    seed: int = 0,
    slides: int = SLIDES,
    progress: Callable[[], None] | None = None,
) -> int:
    """Draw a labelled set of cells and write it as an image folder.

    Crops go to ``out/CLASS/0001-1000/CLASS_00001.jpg``; ``out/slides.csv`` (header ``id,slide``)
    says which slide each lies on. ``out`` is filled when all is drawn.

    Parameters
    ----------
    out : Path, new or empty
    cells_per_class : int, 1 to 99999
    size : int, side of a crop, pixels, 32 to 1024
    stain : str, profile ``a`` or ``b``
    seed : int, 0 or above
    slides : int, slides over which the cells of each class are spread
    progress : callable, optional
        Called after each cell.

    Returns
    -------
    int
        The number of cells written.

    Raises
    ------
    InputError
        If ``out`` is in use or cannot be written, or a number is out of bounds.
    """
    _require_size(size)
    if not 1 <= cells_per_class <= MAX_CELLS:
        raise InputError(
            f"{cells_per_class} cells a class", mend=f"ask for 1 to {MAX_CELLS} cells a class"
        )
    if slides < 1:
        raise InputError(f"{slides} slides", mend="ask for 1 slide or more")
    out = out.resolve()
    _require_free(out)
    sets = (
        (code, draw_set(code, cells_per_class, size=size, stain=stain, seed=seed, slides=slides))
        for code in CODES
    )
    try:
        with whole_folder(out) as folder:
            written = _write_sets(folder, sets, f"{stain}-{seed}", progress)
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}",
            where=out,
            mend="name a folder in a place that has room and that you may write to",
        ) from error
    return written


def _write_sets(
    root: Path,
    sets: Iterable[tuple[str, Iterable[tuple[int, int, Pixels]]]],
    name: str,
    progress: Callable[[], None] | None,
) -> int:
    """Write the crops and the table of their slides; return the number of crops."""
    written = 0
    with (root / "slides.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "slide"])
        for code, cells in sets:
            for number, slide, crop in cells:
                table.writerow([_write_crop(root, code, number, crop), f"{name}-{slide + 1:02d}"])
                written += 1
                if progress is not None:
                    progress()
    return written


def _write_crop(root: Path, code: str, number: int, crop: Pixels) -> str:
    """Write a crop and return its path below the root."""
    first = number // _FOLDER * _FOLDER + 1
    name = f"{code}/{first:04d}-{first + _FOLDER - 1:04d}/{code}_{number + 1:05d}.jpg"
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(crop).save(path, quality=95, subsampling=0)
    return name


def _require_size(size: int) -> None:
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(
            f"crops of {size} pixels", mend=f"choose a size of {MIN_SIZE} to {MAX_SIZE} pixels"
        )


def _require_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError("this is a file", where=out, mend="name a folder that does not exist yet")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(
            "the folder is not empty", where=out, mend="name a new folder, or empty this one"
        )
