import pytest
import torch

from cytodino.recipe import Augmentation
from cytodino.training.augmentation import Augment

STILL = dict.fromkeys(
    ("flip", "rotation", "scale", "shift", "brightness", "contrast", "saturation", "hue"), 0
)


def augment(**changes):
    return Augment(Augmentation(**{**STILL, **changes}), 32)


@pytest.fixture
def pixels():
    return torch.rand(3, 32, 32)


def test_without_any_variation_a_crop_stays_as_it_is(pixels):
    torch.testing.assert_close(augment()(pixels), pixels, atol=1e-5, rtol=0)


def test_certain_flips_turn_a_crop_by_180_degrees(pixels):
    turned = pixels.flip(1, 2)
    torch.testing.assert_close(augment(flip=1.0)(pixels), turned, atol=1e-5, rtol=0)


def test_corners_that_come_from_outside_are_filled_with_what_is_beside_them():
    bright = torch.full((3, 32, 32), 0.8)
    torch.manual_seed(0)
    for _ in range(20):
        varied = augment(rotation=180, scale=0.1, shift=0.05)(bright)
        assert varied.shape == (3, 32, 32)
        torch.testing.assert_close(varied, bright, atol=1e-4, rtol=0)


def test_colours_vary_mildly_and_stay_colours(pixels):
    torch.manual_seed(0)
    varied = augment(brightness=0.15, contrast=0.15, saturation=0.15, hue=0.03)(pixels)
    assert varied.min() >= 0 and varied.max() <= 1
    change = (varied - pixels).abs().mean()
    assert 0.001 < change < 0.2


def test_the_default_varies_by_torchs_seed_alone(pixels):
    module = Augment(Augmentation(), 32)

    def vary(seed):
        torch.manual_seed(seed)
        return module(pixels)

    assert torch.equal(vary(1), vary(1))
    assert not torch.equal(vary(1), vary(2))
