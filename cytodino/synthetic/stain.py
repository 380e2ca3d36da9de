"""Stain and camera: from concentrations of dye to RGB, by the law of Beer and Lambert."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from cytodino.errors import InputError

Field = npt.NDArray[np.float32]
"""A float32 picture, (h, w)."""

Pixels = npt.NDArray[np.uint8]
"""RGB, (h, w, 3)."""


def single(values: npt.ArrayLike) -> Field:
    """Return an array in single precision; one that is already is not copied."""
    return np.asarray(values, np.float32)


class Dye(IntEnum):
    """What colours a cell in a Pappenheim stain, by what it binds to."""

    CHROMATIN = 0
    """Azure and eosin on DNA: violet."""
    BASOPHIL = 1
    """Azure on RNA: blue."""
    ACIDOPHIL = 2
    """Eosin on cytoplasm: pink."""
    AZUR = 3
    """Azurophilic granules and Auer rods: red-violet."""
    EOSIN = 4
    """Granules of eosinophils: orange-red."""
    METACHROME = 5
    """Granules of basophils: violet-black."""
    HAEMOGLOBIN = 6
    """Red cells: greyish pink."""


@dataclass(frozen=True)
class StainProfile:
    """One laboratory: its stain and its camera."""

    absorption: tuple[tuple[float, float, float], ...]
    """Optical density in R, G, B of each `Dye` at concentration 1."""
    white: tuple[float, float, float]
    """R, G, B of the empty slide, 0 to 255."""
    saturation: float
    """Of the camera; 1 leaves the colours as they are."""
    gamma: float
    """Of the camera; above 1 darkens the middle tones."""


STAINS: dict[str, StainProfile] = {
    "a": StainProfile(
        absorption=(
            (0.55, 1.00, 0.26),
            (0.80, 0.72, 0.19),
            (0.16, 0.85, 0.30),
            (0.38, 1.10, 0.34),
            (0.10, 0.56, 0.76),
            (0.80, 1.05, 0.42),
            (0.13, 0.19, 0.17),
        ),
        white=(246.0, 243.0, 240.0),
        saturation=1.0,
        gamma=1.0,
    ),
    "b": StainProfile(
        absorption=(
            (0.76, 0.92, 0.31),
            (0.90, 0.64, 0.23),
            (0.13, 0.71, 0.42),
            (0.52, 1.01, 0.48),
            (0.10, 0.70, 1.02),
            (0.95, 1.05, 0.63),
            (0.08, 0.22, 0.25),
        ),
        white=(248.3, 240.1, 223.8),
        saturation=0.92,
        gamma=1.07,
    ),
}
"""Profile ``a``, near the published set, and ``b``, another laboratory: the domain shift."""


@dataclass(frozen=True)
class Slide:
    """One slide: a draw of stain and camera around a profile, shared by its cells."""

    absorption: Field
    """(dyes, 3), optical density at concentration 1."""
    white: Field
    """(3,), R, G, B of the empty slide, 0 to 255: white balance and exposure."""
    saturation: float
    """Of the camera."""
    gamma: float
    """Of the camera."""
    blur: float
    """Standard deviation of the defocus, micrometres."""
    noise: float
    """Standard deviation of the sensor's noise, grey levels."""
    tint: float
    """Concentration of the pink veil of plasma over the background."""


def draw_slide(stain: str, rng: np.random.Generator) -> Slide:
    """Draw one slide of a stain profile.

    Raises
    ------
    InputError
        If there is no such profile.
    """
    if stain not in STAINS:
        raise InputError(f"no stain profile {stain!r}", mend=f"choose one of {', '.join(STAINS)}")
    profile = STAINS[stain]
    dyes = np.asarray(profile.absorption, np.float32)
    strength = rng.uniform(0.86, 1.16) * rng.uniform(0.92, 1.08, (len(dyes), 1))
    hue = rng.normal(1.0, 0.05, (1, 3)) * rng.normal(1.0, 0.02, dyes.shape)
    white = np.asarray(profile.white) * rng.uniform(0.86, 1.03) * rng.normal(1.0, 0.012, 3)
    return Slide(
        absorption=(dyes * strength * hue).astype(np.float32),
        white=np.clip(white, 0.0, 254.0).astype(np.float32),
        saturation=profile.saturation * rng.uniform(0.92, 1.08),
        gamma=profile.gamma * rng.uniform(0.95, 1.05),
        blur=rng.uniform(0.02, 0.09),
        noise=rng.uniform(0.8, 2.6),
        tint=rng.uniform(0.01, 0.04),
    )


def develop(
    dyes: Field, slide: Slide, rng: np.random.Generator, *, size: int, blur: float, pixel: float
) -> Pixels:
    """Photograph a stained preparation.

    Parameters
    ----------
    dyes : float32, (dyes, h, w), concentrations; h and w are a whole multiple of size
    slide : Slide
    rng : Generator, for the sensor's noise
    size : int, side of the crop, pixels
    blur : float, defocus of this cell beside the slide's own, micrometres
    pixel : float, side of a pixel of the crop, micrometres

    Returns
    -------
    uint8, (size, size, 3), RGB
    """
    density = np.tensordot(dyes, slide.absorption, axes=(0, 0))  # (h, w, 3)
    light = np.exp(density * np.float32(-np.log(10.0) * slide.gamma)) * slide.white
    grey = light.mean(axis=2, keepdims=True)
    light = grey + (light - grey) * np.float32(slide.saturation)
    picture = Image.fromarray(np.clip(light, 0.0, 255.0).astype(np.uint8))
    if picture.width > size:
        picture = picture.reduce(picture.width // size)
    sigma = (slide.blur**2 + blur**2) ** 0.5 / pixel
    picture = picture.filter(ImageFilter.GaussianBlur(sigma))
    noise = rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(slide.noise)
    return np.clip(np.asarray(picture, np.float32) + noise + 0.5, 0, 255).astype(np.uint8)
