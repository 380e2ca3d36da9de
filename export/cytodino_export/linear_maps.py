"""Linear maps as algebra: scaled, stacked, composed, each a `torch.nn.Linear` of its own."""

import torch
from torch import Tensor, nn

__all__ = ["bias_of", "bias_only", "compose", "linear", "scaled", "stack"]


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Linear of a weight (out, in) and a bias (out,)."""
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight = nn.Parameter(weight.detach().clone())
    made.bias = nn.Parameter(bias.detach().clone())
    return made


def bias_of(source: nn.Linear) -> Tensor:
    """Bias (out,), zeros where it has none."""
    return source.weight.new_zeros(source.out_features) if source.bias is None else source.bias


def scaled(source: nn.Linear, scale: Tensor) -> nn.Linear:
    """Linear whose outputs are multiplied by `scale`, () or (out,)."""
    return linear(source.weight * scale.reshape(-1, 1), bias_of(source) * scale)


def stack(*sources: nn.Linear) -> nn.Linear:
    """One linear map with the outputs of several, one after the other."""
    weight = torch.cat([source.weight for source in sources])
    return linear(weight, torch.cat([bias_of(source) for source in sources]))


def compose(outer: nn.Linear, inner: nn.Linear) -> nn.Linear:
    """Compose two linear maps: outer(inner(x))."""
    bias = outer.weight @ bias_of(inner) + bias_of(outer)
    return linear(outer.weight @ inner.weight, bias)


def bias_only(source: nn.Linear) -> nn.Linear:
    """Keep a linear map's bias on the identity: its weight is applied elsewhere."""
    return linear(torch.eye(source.out_features), bias_of(source))
