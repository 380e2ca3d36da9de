import pytest
import torch

from cytodino.training.degradation import CameraNoise, Degradation, Equalisation


@pytest.fixture
def cell():
    """A dark disc on a light ground, of little contrast."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    inside = ((x - 32) ** 2 + (y - 32) ** 2 < 15**2).float()
    return 0.6 - 0.1 * inside * torch.tensor([1.0, 1.5, 0.5])[:, None, None]


def test_equalisation_raises_contrast_and_keeps_the_colours(cell):
    generator = torch.Generator().manual_seed(0)
    grey = (0.5 + 0.1 * torch.rand(1, 64, 64, generator=generator)).expand(3, -1, -1)
    varied = Equalisation()(grey)
    assert 1.5 * grey.std() < varied.std() < 3.5 * grey.std()  # its slope is clipped
    assert (varied.max(dim=0).values - varied.min(dim=0).values).max() < 0.01  # still grey
    assert Equalisation()(cell).shape == (3, 64, 64)


def test_noise_is_mostly_of_brightness(cell):
    torch.manual_seed(0)
    noise = CameraNoise()(cell) - cell
    together = noise.mean(dim=0)
    assert 0.01 < noise.std() < 0.15
    assert together.std() > (noise - together).std()
    assert abs(noise.mean()) < 0.01


def test_each_kind_of_degradation_has_its_turn(cell):
    module, kinds = Degradation(), set()
    for seed in range(40):
        torch.manual_seed(seed)
        varied = module(cell)
        assert varied.shape == cell.shape and varied.min() >= 0 and varied.max() <= 1
        roughness = (varied - cell).abs().mean().item()
        assert roughness > 0
        steps = (varied * 255 - (varied * 255).round()).abs().max() < 1e-3
        kinds.add("jpeg" if steps else "noise" if roughness > 0.01 else "blur")
    assert kinds == {"jpeg", "noise", "blur"}
