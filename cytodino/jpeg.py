"""JPEG pixels in threads: what Pillow decodes, without the interpreter's lock that it holds."""

from functools import cache

import numpy as np
import simplejpeg
from PIL import JpegImagePlugin, features

SAMPLINGS = frozenset({(1, 1), (2, 1), (2, 2)})
"""Luma samples a chroma sample, across and down (4:4:4, 4:2:2, 4:2:0): where both decoders were
found the same to the bit, baseline and progressive. Rarer ones are left to Pillow."""


def decode_jpeg(image: JpegImagePlugin.JpegImageFile, data: bytes) -> np.ndarray | None:
    """Decode a JPEG file whose header Pillow has read and found in order.

    Parameters
    ----------
    image : opened, not loaded
    data : the file's bytes

    Returns
    -------
    uint8, (h, w, 3), RGB, writable, to the bit what Pillow would make of it; or None where that
    is not certain: of an unusual kind of file, and wherever the decoder has anything to complain
    of, so that Pillow has the last word on every damaged file.
    """
    if not _same_library() or not _usual(image):
        return None
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None


@cache
def _same_library() -> bool:
    # Another libjpeg (IJG's, mozjpeg) rounds in other ways. simplejpeg brings libjpeg-turbo.
    return features.check_feature("libjpeg_turbo") is True


def _usual(image: JpegImagePlugin.JpegImageFile) -> bool:
    layers = image.layer  # (id, across, down, table) of each component
    if image.mode != "RGB" or image.bits != 8 or len(layers) != 3:
        return False
    (_, *luma, _), (_, *blue, _), (_, *red, _) = layers
    return tuple(luma) in SAMPLINGS and blue == red == [1, 1]
