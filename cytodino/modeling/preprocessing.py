"""Crops to pixel values: one module for training and PyTorch inference.

The export resizes with it too, and folds its scaling and normalisation into the patch embedding
(`cytodino_export.deploy.CentredPixels`, held to it by `tests/export/test_deploy.py`).
"""

import torch
from torch import nn
from torch.nn import functional

MEAN = (0.5631, 0.4959, 0.7355)
"""Red, green and blue of the bone-marrow set, scale 0 to 1 (Muminov and Pham, 2025)."""
STD = (0.2419, 0.2835, 0.1761)
"""Their standard deviations, from the same source."""


class Preprocess(nn.Module):
    """Resize, scale and normalise crops of any size.

    Parameters
    ----------
    image_size : int
        Side S of the square given to the backbone, pixels.
    mean, std : three floats, RGB, for values between 0 and 1
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        image_size: int,
        *,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def resize(self, crops: torch.Tensor) -> torch.Tensor:
        """Bring crops to the model's size, bilinear, without antialiasing.

        Parameters
        ----------
        crops : uint8, (n, h, w, 3), RGB

        Returns
        -------
        float32, (n, 3, S, S), between 0 and 1
        """
        return self.resize_pixels(crops.permute(0, 3, 1, 2).to(torch.float32) / 255.0)

    def resize_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Bring pixels of any scale, float32 (n, 3, h, w), to (n, 3, S, S)."""
        return functional.interpolate(
            pixels,
            size=(self.image_size, self.image_size),
            mode="bilinear",
            align_corners=False,
            antialias=False,
        )

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Subtract the mean and divide by the standard deviation; (n, 3, S, S) to the same."""
        return (pixels - self.mean) / self.std

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Turn uint8 crops (n, h, w, 3) into pixel values (n, 3, S, S)."""
        return self.normalise(self.resize(crops))
