import numpy as np
import pytest
import torch

from cytodino.modeling.preprocessing import MEAN, STD, Preprocess


def test_a_uniform_crop_becomes_its_normalised_colour():
    crops = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(2, 50, 30, 3)
    values = Preprocess(16)(crops)
    expected = (np.array([1.0, 0.0, 0.2]) - np.array(MEAN)) / np.array(STD)
    assert values.shape == (2, 3, 16, 16)
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values[1, :, 7, 9].numpy(), expected, atol=1e-6)


def test_resizing_is_bilinear_between_the_two_nearest_pixels_without_antialiasing():
    # From 8 to 2 columns the centres fall between columns 1|2 and 5|6; antialiasing would
    # average four columns instead.
    row = torch.tensor([0, 10, 30, 200, 200, 50, 70, 0], dtype=torch.uint8)
    crops = row.view(1, 1, 8, 1).expand(1, 8, 8, 3)
    pixels = Preprocess(2).resize(crops) * 255
    np.testing.assert_allclose(pixels[0, 0, 0].numpy(), [20.0, 60.0], atol=1e-4)


def test_a_crop_of_the_models_size_keeps_its_pixels():
    crops = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
    pixels = Preprocess(16).resize(crops)
    assert torch.equal((pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1), crops)


def test_forward_is_resize_and_then_normalise():
    module = Preprocess(16)
    crops = torch.randint(0, 256, (2, 21, 37, 3), dtype=torch.uint8)
    assert torch.equal(module(crops), module.normalise(module.resize(crops)))


def test_mean_and_std_can_be_others_and_are_not_weights():
    module = Preprocess(16, mean=(0.0, 0.0, 0.0), std=(0.5, 0.5, 0.5))
    crops = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    assert module(crops).unique().tolist() == pytest.approx([2.0])
    assert module.state_dict() == {}
