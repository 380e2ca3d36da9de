"""Image folders of a few tiny cells, and archives of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytodino.archive import write_archive
from cytodino.cells import open_cells

NAMES = (
    "BLA/a.png",
    "BLA/deep/er/b.jpg",
    "EOS/c.tif",
    "LYT/d.bmp",
    "LYT/e.png",
    "NGS/grün.png",
    "NGS/x.jpeg",
)


def draw(height: int = 12, width: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_images(folder: Path, names=NAMES, sizes=((12, 10),)) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(*sizes[number % len(sizes)], seed=number)).save(path)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "slide 7")


@pytest.fixture(params=["jpeg", "raw"])
def encoding(request) -> str:
    return request.param


@pytest.fixture
def archive(images, tmp_path, encoding) -> Path:
    path = tmp_path / f"{encoding}.h5"
    write_archive(path, open_cells(images), encoding=encoding)
    return path
