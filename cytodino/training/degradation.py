"""What cameras, files and stains do to a picture, as steps of the augmentation.

Strengths are those of the published training (Muminov and Pham, arXiv 2512.17930, 2025).
"""

import torch
from kornia.color import lab_to_rgb, rgb_to_lab
from kornia.enhance import equalize_clahe
from simplejpeg import decode_jpeg, encode_jpeg
from torch import nn
from torchvision.transforms import v2

BLUR_KERNELS = (3, 5)
"""Pixels on a side."""

NOISE = (0.1, 0.5)
"""Of the camera: intensity, whose fifth is the standard deviation on a scale of 0 to 1."""

JPEG_QUALITY = (9, 100)

CLAHE_CLIP = 2.0
"""Times the mean height of a tile's histogram; higher bars are cut off."""

CLAHE_TILE = 32
"""Pixels on a side: the published 8 x 8 tiles of a crop of 256. With fewer pixels a tile's
histogram has so few in a bar that nothing is cut off, and noise becomes structure."""


class ChannelShift(nn.Module):
    """Raise or lower red, green and blue, each by a random amount.

    Parameters
    ----------
    most : float, of the full scale
    """

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vary one crop: float (3, S, S) between 0 and 1, to the same."""
        shift = (torch.rand(3, 1, 1) * 2 - 1) * self.most
        return (pixels + shift).clamp(0, 1)


class Degradation(nn.Module):
    """Blur, add a camera's noise or compress, each as often."""

    def __init__(self) -> None:
        super().__init__()
        blurs = [v2.GaussianBlur(kernel, sigma=(0.3, 1.0)) for kernel in BLUR_KERNELS]
        self.choice = v2.RandomChoice([v2.RandomChoice(blurs), CameraNoise(), Compression()])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vary one crop: float (3, S, S) between 0 and 1, to the same."""
        varied: torch.Tensor = self.choice(pixels)
        return varied.clamp(0, 1)


class CameraNoise(nn.Module):
    """Noise of a sensor at high gain: mostly of brightness, a little of colour."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vary one crop: float (3, S, S) between 0 and 1, to the same."""
        low, high = NOISE
        deviation = (low + (high - low) * torch.rand(())) / 5
        bright = torch.randn(1, *pixels.shape[1:])  # (1, S, S), the same in all channels
        colour = torch.randn_like(pixels) / 4  # (3, S, S)
        return (pixels + deviation * (bright + colour)).clamp(0, 1)


class Compression(nn.Module):
    """Write the crop as a JPEG file of random quality, and read it back."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vary one crop: float (3, S, S) between 0 and 1, to the same."""
        low, high = JPEG_QUALITY
        quality = int(torch.randint(low, high + 1, ()))
        crop = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()  # (S, S, 3)
        data = encode_jpeg(crop.numpy(), quality=quality)
        return torch.from_numpy(decode_jpeg(data)).permute(2, 0, 1).float() / 255


class Equalisation(nn.Module):
    """Contrast-limited adaptive histogram equalisation of the lightness; colours stay."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vary one crop: float (3, S, S) between 0 and 1, to the same."""
        lab = rgb_to_lab(pixels[None])  # (1, 3, S, S), lightness from 0 to 100
        lightness = (lab[:, :1] / 100).clamp(0, 1)
        tiles = max(1, pixels.shape[1] // CLAHE_TILE), max(1, pixels.shape[2] // CLAHE_TILE)
        even = equalize_clahe(lightness, CLAHE_CLIP, tiles) * 100
        varied: torch.Tensor = lab_to_rgb(torch.cat([even, lab[:, 1:]], dim=1))[0]
        return varied.clamp(0, 1)
