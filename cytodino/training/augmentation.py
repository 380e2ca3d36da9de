"""Variation of training crops, through torchvision, at the model's size."""

import math

import torch
from torch import nn
from torch.nn import functional
from torchvision.transforms import v2

from cytodino.recipe import Augmentation
from cytodino.training.degradation import ChannelShift, Degradation, Equalisation


class Augment(nn.Module):
    """Flip, rotate, move, scale, recolour and degrade one crop, from torch's random state.

    Parameters
    ----------
    settings : Augmentation
    image_size : int
        Side S of the crops, pixels.
    """

    def __init__(self, settings: Augmentation, image_size: int) -> None:
        super().__init__()
        # How far a turned, reduced and moved square reaches beyond itself.
        reach = math.sqrt(0.5) / (1 - settings.scale) + settings.shift - 0.5
        self.margin = min(math.ceil(reach * image_size), image_size - 1)
        padded = image_size + 2 * self.margin
        self.move = v2.Compose(
            [
                v2.RandomAffine(
                    settings.rotation,
                    translate=(settings.shift * image_size / padded,) * 2,
                    scale=(1 - settings.scale, 1 + settings.scale),
                    interpolation=v2.InterpolationMode.BILINEAR,
                ),
                v2.CenterCrop(image_size),
                v2.RandomHorizontalFlip(settings.flip),
                v2.RandomVerticalFlip(settings.flip),
            ]
        )
        self.recolour = _recolour(settings)
        self.degrade = nn.Sequential(
            v2.RandomApply([Degradation()], settings.degradation),
            v2.RandomApply([Equalisation()], settings.equalisation),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vary one crop: float (3, S, S) between 0 and 1, to the same."""
        wide = functional.pad(pixels[None], (self.margin,) * 4, mode="reflect")[0]
        varied: torch.Tensor = self.degrade(self.recolour(self.move(wide).clamp(0, 1)))
        return varied


def _recolour(settings: Augmentation) -> nn.Module:
    jitter = v2.ColorJitter(
        settings.brightness, settings.contrast, settings.saturation, settings.hue
    )
    if settings.channel_shift:
        jitter = v2.RandomChoice([jitter, ChannelShift(settings.channel_shift)])
    varied: nn.Module = v2.RandomApply([jitter], settings.colour)
    return varied
