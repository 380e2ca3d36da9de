import pytest
import torch

from cytodino.recipe import PUBLISHED, Augmentation
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


def test_the_published_variation_keeps_a_crop_a_crop(pixels):
    module = Augment(PUBLISHED["augmentation"], 32)
    for seed in range(30):
        torch.manual_seed(seed)
        varied = module(pixels)
        assert varied.shape == (3, 32, 32) and varied.dtype == torch.float32
        assert varied.min() >= 0 and varied.max() <= 1
        torch.manual_seed(seed)
        assert torch.equal(module(pixels), varied)


@pytest.mark.parametrize("name", ["degradation", "equalisation"])
def test_what_is_certain_happens_and_what_is_off_does_not(pixels, name):
    torch.manual_seed(1)
    assert not torch.allclose(augment(**{name: 1.0})(pixels), pixels, atol=1e-3)


def test_colours_may_be_left_alone_or_their_channels_shifted(pixels):
    grey = torch.full((3, 32, 32), 0.5)
    alone = augment(brightness=0.5, contrast=0.5, colour=0.0)
    torch.testing.assert_close(alone(grey), grey, atol=1e-5, rtol=0)
    shift = augment(channel_shift=0.06)
    found = set()
    for seed in range(20):
        torch.manual_seed(seed)
        varied = shift(grey)
        means = varied.mean(dim=(1, 2))
        assert (varied - means[:, None, None]).abs().max() < 1e-5
        assert (means - 0.5).abs().max() <= 0.06 + 1e-5
        found.add(len({round(float(mean), 4) for mean in means}))
    assert found == {1, 3}  # half of the times the jitter, here without strength, has its turn
