"""Every fold is algebra: the folded model gives the same logits to float error."""

from typing import Any

import pytest
import torch

from cytodino.modeling.head import DecoderHead
from cytodino.modeling.preprocessing import Preprocess
from cytodino_export.deploy import (
    CentredPixels,
    FoldedBackbone,
    FoldedHead,
    backbone_blocks,
    fold,
)

RELATIVE = 1e-5


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.std())


def draw_crops(n: int = 4, height: int = 37, width: int = 41) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture(params=[False, True], ids=["plain MLP", "gated MLP"])
def model(request: pytest.FixtureRequest, make_model: Any) -> Any:
    return make_model(1, gated=request.param)


@torch.inference_mode()
def test_the_folded_model_says_the_same(model: Any) -> None:
    crops = draw_crops()
    assert relative_error(fold(model)(crops), model(crops)) < RELATIVE


@torch.inference_mode()
def test_the_folded_backbone_gives_the_same_tokens(model: Any) -> None:
    crops = draw_crops()
    expected = model.backbone(pixel_values=model.preprocess(crops)).last_hidden_state
    centred = CentredPixels(model.preprocess)
    folded = FoldedBackbone(model.backbone, centred).eval()
    assert relative_error(folded(centred(crops)), expected) < RELATIVE


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_pixels_are_exact_in_half_the_bits_until_the_resize(kind: torch.dtype) -> None:
    crops = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    pixels = CentredPixels(Preprocess(16))(crops)
    assert pixels.unique().numel() > 256  # each channel about a centre of its own
    assert torch.equal(pixels.to(kind).float(), pixels)


@pytest.mark.parametrize("layers", [1, 2, 4])
@torch.inference_mode()
def test_the_folded_head_gives_the_same_logits(layers: int, roughen: Any) -> None:
    head = DecoderHead(32, layers=layers, heads=4)
    roughen(head, torch.Generator().manual_seed(2))
    head.eval()
    tokens = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(3))
    assert relative_error(FoldedHead(head).eval()(tokens), head(tokens)) < RELATIVE


@torch.inference_mode()
def test_no_fold_is_trivial_in_these_tests(model: Any) -> None:
    """Each folded quantity matters: without it the logits are others."""
    crops = draw_crops()
    expected = model(crops)
    for break_it in (
        lambda block: block.layer_scale1.lambda1.fill_(1.0),
        lambda block: model.backbone.embeddings.patch_embeddings.bias.zero_(),
        lambda block: block.layer_scale2.lambda1.fill_(1.0),
        lambda block: block.attention.k_proj.bias.zero_(),
        lambda block: block.attention.q_proj.bias.zero_(),
    ):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        break_it(backbone_blocks(model.backbone)[0])
        assert relative_error(fold(model)(crops), expected) > 100 * RELATIVE
        model.load_state_dict(state)


@torch.inference_mode()
def test_prefix_tokens_do_not_turn(model: Any) -> None:
    folded = FoldedBackbone(model.backbone, CentredPixels(model.preprocess))
    assert torch.equal(folded.cosine[:5], torch.ones_like(folded.cosine[:5]))
    assert torch.equal(folded.sine[:5], torch.zeros_like(folded.sine[:5]))
    assert folded.sine[5:].abs().max() > 0.1


def test_nothing_of_the_source_is_changed_and_nothing_is_trainable(model: Any) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(weight.requires_grad for weight in folded.parameters())
    assert not folded.training


def test_the_mask_token_is_gone(model: Any) -> None:
    assert not any("mask_token" in name for name in fold(model).state_dict())


def test_both_namings_of_blocks_are_found(model: Any) -> None:
    class Newer(torch.nn.Module):
        def __init__(self, blocks: list[Any]) -> None:
            super().__init__()
            self.model = torch.nn.Module()
            self.model.layer = torch.nn.ModuleList(blocks)

    class Older(torch.nn.Module):
        def __init__(self, blocks: list[Any]) -> None:
            super().__init__()
            self.layer = torch.nn.ModuleList(blocks)

    blocks = backbone_blocks(model.backbone)
    assert len(blocks) == 2
    assert backbone_blocks(Newer(blocks)) == backbone_blocks(Older(blocks)) == blocks
