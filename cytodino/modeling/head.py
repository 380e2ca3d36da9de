"""The decoder head: one learned query reads all tokens of the backbone.

Architecture of the published system (Muminov and Pham, arXiv 2512.17930).
"""

import torch
from torch import nn

from cytodino.taxonomy import N_CLASSES


class DecoderHead(nn.Module):
    """Query token, Transformer decoder, LayerNorm, Linear.

    Parameters
    ----------
    hidden : int
        Width of the backbone's tokens.
    layers : int
    heads : int
        Attention heads; has to divide `hidden`, see `fitting_heads`.
    feedforward : int, optional
        Width inside the feed-forward blocks, 2 x hidden unless given.
    dropout : float
    """

    def __init__(
        self,
        hidden: int,
        *,
        layers: int = 4,
        heads: int = 4,
        feedforward: int | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.layers = layers
        self.heads = heads
        self.feedforward = feedforward or 2 * hidden
        self.dropout = dropout
        self.query = nn.Parameter(torch.empty(1, 1, hidden))
        nn.init.trunc_normal_(self.query, std=0.02)
        layer = nn.TransformerDecoderLayer(
            hidden,
            heads,
            self.feedforward,
            dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.norm = nn.LayerNorm(hidden)
        self.classifier = nn.Linear(hidden, N_CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read CLS, register and patch tokens.

        Parameters
        ----------
        tokens : float, (n, tokens, hidden)

        Returns
        -------
        float, (n, 21), logits
        """
        query = self.query.expand(tokens.shape[0], -1, -1)  # (n, 1, hidden)
        decoded = self.decoder(query, tokens)[:, 0]  # (n, hidden)
        return self.classifier(self.norm(decoded))  # type: ignore[no-any-return]  # Module.__call__


def fitting_heads(hidden: int, wanted: int) -> int:
    """Return the largest number of attention heads, at most `wanted`, that divides the width."""
    return next(heads for heads in range(wanted, 0, -1) if hidden % heads == 0)
