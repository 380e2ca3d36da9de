"""The whole model: crops in, 21 logits out."""

import torch
from torch import nn

from cytodino.modeling.head import DecoderHead
from cytodino.modeling.preprocessing import Preprocess


class CytoDino(nn.Module):
    """Preprocessing, DINOv3 and decoder head.

    Parameters
    ----------
    backbone : DINOv3ViTModel, or a PeftModel around one
    head : DecoderHead
    preprocess : Preprocess
    """

    def __init__(self, backbone: nn.Module, head: DecoderHead, preprocess: Preprocess) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.preprocess = preprocess

    def classify(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Pixel values (n, 3, S, S), already normalised, to logits (n, 21)."""
        tokens = self.backbone(pixel_values=pixel_values).last_hidden_state  # (n, tokens, hidden)
        return self.head(tokens)  # type: ignore[no-any-return]  # Module.__call__ returns Any

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Uint8 RGB crops (n, h, w, 3), any h and w, to logits (n, 21)."""
        return self.classify(self.preprocess(crops))


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of the parameters that train, by name, on the CPU."""
    return {
        name: value.detach().cpu().clone()
        for name, value in model.named_parameters()
        if value.requires_grad
    }


def share(parameters: tuple[int, int]) -> str:
    """Say how many parameters train: `44,132,373 of 346,958,869 parameters (12.7 %)`."""
    trained, all_ = parameters
    return f"{trained:,} of {all_:,} parameters ({trained / all_:.1%})"


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return how many parameters train, and how many there are."""
    sizes = [(p.requires_grad, p.numel()) for p in model.parameters()]
    return sum(size for trains, size in sizes if trains), sum(size for _, size in sizes)
