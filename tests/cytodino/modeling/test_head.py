import pytest
import torch

from cytodino.modeling.head import DecoderHead, fitting_heads


def test_it_is_the_published_head():
    head = DecoderHead(64)
    layer = head.decoder.layers[0]
    assert len(head.decoder.layers) == 4
    assert layer.self_attn.num_heads == layer.multihead_attn.num_heads == 4
    assert layer.linear1.out_features == 128
    assert layer.dropout.p == 0.2
    assert layer.norm_first
    assert layer.activation is torch.nn.functional.gelu
    assert head.query.shape == (1, 1, 64)
    assert head.classifier.out_features == 21


def test_any_number_of_tokens_gives_21_logits_a_cell():
    head = DecoderHead(32, layers=1).eval()
    assert head(torch.randn(3, 9, 32)).shape == (3, 21)
    assert head(torch.randn(1, 41, 32)).shape == (1, 21)


def test_every_token_counts():
    head = DecoderHead(32, layers=1).eval()
    tokens = torch.randn(1, 9, 32, requires_grad=True)
    head(tokens).sum().backward()
    assert (tokens.grad.abs().sum(-1) > 0).all()


def test_one_cells_logits_do_not_depend_on_its_neighbours():
    head = DecoderHead(32, layers=2).eval()
    tokens = torch.randn(4, 9, 32)
    torch.testing.assert_close(head(tokens)[2:3], head(tokens[2:3]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("hidden", "heads"), [(192, 4), (30, 3), (6, 3), (7, 1)])
def test_heads_divide_the_width(hidden, heads):
    assert fitting_heads(hidden, 4) == heads
