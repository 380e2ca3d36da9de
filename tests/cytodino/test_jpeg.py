"""Decoded outside the interpreter's lock, and to the bit what Pillow makes of the file."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFile, JpegImagePlugin

from cytodino import images
from cytodino import jpeg as jpeg_module
from cytodino.errors import CropError
from cytodino.images import decode_rgb
from cytodino.jpeg import decode_jpeg
from cytodino.synthetic import draw_cell

CELL = draw_cell("BLA", seed=3, size=96)


def encode(pixels, **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def by_pillow(data, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(images, "decode_jpeg", lambda image, data: None)
        return decode_rgb(data)


def fast(data):
    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
        return decode_jpeg(image, data)


def outcome(decode):
    try:
        return decode()
    except CropError as error:
        return error.reason


@pytest.mark.parametrize("size", [(96, 96), (95, 83), (17, 16), (8, 9), (2, 3), (1, 1)])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_usual_files_are_the_same_to_the_bit(subsampling, progressive, size, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for pixels in (np.ascontiguousarray(CELL[: size[0], : size[1]]), noise):
        for quality in (30, 75, 95, 100):
            data = encode(pixels, quality=quality, subsampling=subsampling, progressive=progressive)
            decoded = fast(data)
            np.testing.assert_array_equal(decoded, by_pillow(data, monkeypatch))
            assert decoded.dtype == np.uint8
            assert decoded.flags.writeable


def odd_files():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    yield "grey", encode(Image.fromarray(CELL).convert("L"))
    yield "CMYK", encode(Image.fromarray(CELL).convert("CMYK"))
    yield "RGB not YCbCr", encode(CELL, keep_rgb=True)
    yield "EXIF orientation", encode(CELL, exif=exif)
    yield "restart markers", encode(CELL, restart_marker_rows=1)
    yield "trailing bytes", encode(CELL) + bytes(100)
    yield "without its end", encode(CELL)[:-2]
    yield "truncated", encode(CELL)[:-300]
    yield "truncated progressive", encode(CELL, progressive=True)[:-300]
    yield "header alone", encode(CELL)[:200]
    yield "comment", encode(CELL, comment=b"cell")
    yield "rows of luma across", _with_sampling(encode(CELL, subsampling="4:2:2"), 0x12)
    yield "four across", _with_sampling(encode(CELL, subsampling="4:2:2"), 0x41)


def _with_sampling(data, sampling):
    """Change what the header says of the luma; the data after it no longer fit."""
    at = data.index(b"\xff\xc0")
    return data[: at + 11] + bytes([sampling]) + data[at + 12 :]


@pytest.mark.parametrize(("name", "data"), [pytest.param(*odd, id=odd[0]) for odd in odd_files()])
def test_odd_files_end_as_they_do_with_pillow(name, data, monkeypatch):
    expected = outcome(lambda: by_pillow(data, monkeypatch))
    np.testing.assert_array_equal(outcome(lambda: decode_rgb(data)), expected)


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_files_end_as_they_do_with_pillow(progressive, monkeypatch):
    data = encode(CELL, progressive=progressive, subsampling="4:2:0")
    ends = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        damaged = bytearray(data)
        for at in rng.integers(2, len(data), 1 + seed % 4):
            damaged[at] ^= 1 << int(rng.integers(8))
        damaged = bytes(damaged)
        expected = outcome(lambda damaged=damaged: by_pillow(damaged, monkeypatch))
        np.testing.assert_array_equal(
            outcome(lambda damaged=damaged: decode_rgb(damaged)), expected
        )
        ends.add(expected if isinstance(expected, str) else "pixels")
    assert "pixels" in ends
    assert len(ends) > 1


def test_only_files_of_a_proven_kind_are_taken():
    assert fast(encode(CELL)) is not None
    for odd in ("grey", "CMYK", "rows of luma across", "four across", "truncated"):
        assert fast(dict(odd_files())[odd]) is None


def test_another_libjpeg_in_pillow_leaves_all_to_pillow(monkeypatch):
    jpeg_module._same_library.cache_clear()
    monkeypatch.setattr(jpeg_module.features, "check_feature", lambda name: False)
    try:
        assert fast(encode(CELL)) is None
    finally:
        jpeg_module._same_library.cache_clear()


def test_pillow_is_not_needed_for_the_pixels(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert decode_rgb(encode(CELL)).shape == CELL.shape
