"""The form that is exported: one lean graph, preprocessing inside, every exact fold done.

A fold is algebra: the folded model gives the same logits to float error, with fewer and larger
operations. Normalisation goes into the patch embedding; LayerScale into `o_proj` and `down_proj`;
q, k and v into one matrix, with the softmax's scale in q; RoPE as constant tables, 1 and 0 for the
prefix tokens; gate and up of a gated MLP into one matrix; the mask token dropped. In the head,
whose query is one token: self-attention over it is one linear map; the key projection moves to the
query's side, where its bias shifts all scores alike and drops out of the softmax; the value
projection moves behind the attention, whose weights sum to 1; and all that comes before the first
look at the tokens is a constant.
"""

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.preprocessing import Preprocess
from cytodino_export.linear_maps import bias_only, compose, linear, scaled, stack

__all__ = [
    "STEPS", "CentredPixels", "DeployedModel", "FoldedBackbone", "FoldedHead", "backbone_blocks",
    "fold",
]  # fmt: skip

STEPS = 128.0
"""Steps of a pixel's 255 that make 1 in the graph: a power of two, so that dividing is exact."""


class DeployedModel(nn.Module):
    """Crops to logits, folded.

    Parameters
    ----------
    model : CytoDino
        Merged, float32; it is read, not changed.
    """

    def __init__(self, model: CytoDino) -> None:
        super().__init__()
        self.pixels = CentredPixels(model.preprocess)
        self.backbone = FoldedBackbone(model.backbone, self.pixels)
        self.head = FoldedHead(model.head)

    def forward(self, crops: Tensor) -> Tensor:
        """Uint8 RGB crops (n, h, w, 3), any h and w, to float32 logits (n, 21)."""
        return cast(Tensor, self.head(self.backbone(self.pixels(crops))))


def fold(model: CytoDino) -> DeployedModel:
    """Build the deployed form of a merged model, in evaluation mode and without gradients."""
    with torch.no_grad():
        return DeployedModel(model).eval().requires_grad_(False)


def backbone_blocks(backbone: nn.Module) -> list[Any]:
    """List DINOv3's blocks: transformers 4.57 has `layer`, transformers 5 `model.layer`."""
    holder: Any = backbone
    layers = holder.layer if hasattr(holder, "layer") else holder.model.layer
    return list(layers)


class CentredPixels(nn.Module):
    """Crops as the folded patch embedding reads them: about zero and resized, not normalised.

    Of each channel the whole number next to its mean is subtracted, which leaves 8 bits and a
    sign: exact in bf16 and FP16 until the resize, which is then the one rounding. Scaled to 1,
    resized and normalised in bf16, all the background of a crop is rounded the same way at each
    step: that moved the probabilities of a model on real cells 2.7 times as far (0.013 against
    0.005).

    Parameters
    ----------
    preprocess : Preprocess
    """

    centre: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.register_buffer("centre", torch.round(preprocess.mean * 255.0))  # (1, 3, 1, 1)

    def forward(self, crops: Tensor) -> Tensor:
        """Uint8 crops (n, h, w, 3) to (n, 3, S, S)."""
        pixels = crops.permute(0, 3, 1, 2).to(torch.float32)  # (n, 3, h, w)
        return self.preprocess.resize_pixels((pixels - self.centre) / STEPS)

    def fold_into(self, patches: nn.Conv2d) -> nn.Conv2d:
        """Return a patch embedding that gives of these pixels what `patches` gives of others."""
        assert not any(patches.padding)  # a zero at the border would be shifted too
        mean, std = self.preprocess.mean.double(), self.preprocess.std.double()
        weight = patches.weight.double() / std  # (hidden, 3, p, p)
        shift = (weight * (self.centre / 255.0 - mean)).sum(dim=(1, 2, 3))  # (hidden,)
        folded = deepcopy(patches)
        bias = 0.0 if patches.bias is None else patches.bias.double()
        folded.weight = nn.Parameter((weight * (STEPS / 255.0)).float())
        folded.bias = nn.Parameter((shift + bias).float())
        return folded


class FoldedBackbone(nn.Module):
    """DINOv3 for one image size: patches, prefix tokens, blocks, norm.

    Parameters
    ----------
    backbone : DINOv3ViTModel
        Plain weights, without an adapter.
    pixels : CentredPixels
        What it reads.
    """

    cosine: Tensor
    sine: Tensor
    prefix: Tensor

    def __init__(self, backbone: nn.Module, pixels: CentredPixels) -> None:
        super().__init__()
        source: Any = backbone
        embeddings = source.embeddings
        self.patches = pixels.fold_into(embeddings.patch_embeddings)
        prefix = torch.cat([embeddings.cls_token, embeddings.register_tokens], dim=1)
        self.register_buffer("prefix", prefix.detach().clone())  # (1, prefix, hidden)
        cosine, sine = _rope_tables(
            source.rope_embeddings, pixels.preprocess.image_size, prefix.shape[1]
        )
        self.register_buffer("cosine", cosine)  # (tokens, head_dim)
        self.register_buffer("sine", sine)
        self.blocks = nn.ModuleList(FoldedBlock(block) for block in backbone_blocks(source))
        self.norm = source.norm

    def forward(self, pixels: Tensor) -> Tensor:
        """Centred pixels (n, 3, S, S) to tokens (n, tokens, hidden)."""
        patches = self.patches(pixels).flatten(2).transpose(1, 2)  # (n, patches, hidden)
        prefix = self.prefix.expand(pixels.shape[0], -1, -1)
        tokens = torch.cat([prefix, patches], dim=1)  # (n, tokens, hidden)
        for block in self.blocks:
            tokens = block(tokens, self.cosine, self.sine)
        return cast(Tensor, self.norm(tokens))


class FoldedBlock(nn.Module):
    """One transformer block.

    Parameters
    ----------
    block : DINOv3ViTLayer
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        attention = block.attention
        self.heads: int = attention.num_heads
        self.norm1 = block.norm1
        self.qkv = stack(
            scaled(attention.q_proj, torch.tensor(attention.scaling)),
            attention.k_proj,
            attention.v_proj,
        )
        self.out = scaled(attention.o_proj, block.layer_scale1.lambda1)
        self.norm2 = block.norm2
        self.gated = hasattr(block.mlp, "gate_proj")
        self.up = (
            stack(block.mlp.gate_proj, block.mlp.up_proj)
            if self.gated
            else stack(block.mlp.up_proj)
        )
        self.activation = block.mlp.act_fn
        self.down = scaled(block.mlp.down_proj, block.layer_scale2.lambda1)

    def forward(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Tokens (n, tokens, hidden) to the same; tables (tokens, head_dim)."""
        tokens = tokens + self._attend(self.norm1(tokens), cosine, sine)
        return tokens + self._feed_forward(self.norm2(tokens))

    def _attend(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        count, hidden = tokens.shape[1], tokens.shape[2]
        qkv = self.qkv(tokens).view(-1, count, 3, self.heads, hidden // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (n, heads, tokens, head_dim)
        scores = _rotate(query, cosine, sine) @ _rotate(key, cosine, sine).transpose(-1, -2)
        mixed = scores.softmax(dim=-1) @ value  # (n, heads, tokens, head_dim)
        return cast(Tensor, self.out(mixed.transpose(1, 2).reshape(-1, count, hidden)))

    def _feed_forward(self, tokens: Tensor) -> Tensor:
        inner = self.up(tokens)
        if self.gated:
            gate, up = inner.chunk(2, dim=-1)
            return cast(Tensor, self.down(self.activation(gate) * up))
        return cast(Tensor, self.down(self.activation(inner)))


class FoldedHead(nn.Module):
    """The decoder head as its one query sees it.

    Parameters
    ----------
    head : DecoderHead
    """

    start: Tensor

    def __init__(self, head: DecoderHead) -> None:
        super().__init__()
        source: list[Any] = list(head.decoder.layers)
        query = head.query[0]  # (1, hidden)
        self.register_buffer("start", _own_attention(source[0])(source[0].norm1(query)) + query)
        self.layers = nn.ModuleList(
            FoldedHeadLayer(layer, before=_own_attention(layer) if index else None)
            for index, layer in enumerate(source)
        )
        self.norm = head.norm
        self.classifier = head.classifier

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, tokens, hidden) to logits (n, 21)."""
        state = self.start  # (1, hidden): the same for every cell
        for layer in self.layers:
            state = layer(state, tokens)  # (n, hidden)
        return cast(Tensor, self.classifier(self.norm(state)))


class FoldedHeadLayer(nn.Module):
    """One decoder layer for a single query.

    Parameters
    ----------
    layer : nn.TransformerDecoderLayer
        norm_first, batch_first.
    before : nn.Linear, optional
        Its self-attention as one map; None where it is part of the constant start.
    """

    key: Tensor
    value: Tensor

    def __init__(self, layer: Any, *, before: nn.Linear | None) -> None:
        super().__init__()
        cross = layer.multihead_attn
        hidden, self.heads = cross.embed_dim, cross.num_heads
        width = hidden // self.heads
        query, key, value = _input_projections(cross)
        self.before, self.norm1 = before, layer.norm1 if before is not None else None
        self.norm2 = layer.norm2
        self.query = scaled(query, torch.tensor(width**-0.5))
        self.register_buffer("key", key.weight.detach().view(self.heads, width, hidden).clone())
        by_head = value.weight.detach().view(self.heads, width, hidden)
        self.register_buffer("value", by_head.transpose(1, 2).clone())  # (heads, hidden, width)
        self.out = compose(cross.out_proj, bias_only(value))
        self.norm3 = layer.norm3
        self.up, self.activation, self.down = layer.linear1, layer.activation, layer.linear2

    def forward(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Read tokens (n, tokens, hidden) with the state (n or 1, hidden); give (n, hidden)."""
        if self.before is not None and self.norm1 is not None:
            state = state + self.before(self.norm1(state))
        state = state + self._look(self.norm2(state), tokens)
        return cast(Tensor, state + self.down(self.activation(self.up(self.norm3(state)))))

    def _look(self, state: Tensor, tokens: Tensor) -> Tensor:
        hidden = state.shape[-1]
        query = self.query(state).view(-1, self.heads, 1, hidden // self.heads)
        query = (query @ self.key).squeeze(2)  # (n or 1, heads, hidden): in the tokens' space
        weights = (query @ tokens.transpose(1, 2)).softmax(dim=-1)  # (n, heads, tokens)
        seen = (weights @ tokens).unsqueeze(2)  # (n, heads, 1, hidden)
        mixed = (seen @ self.value).reshape(-1, hidden)  # (n, heads x width)
        return cast(Tensor, self.out(mixed))


def _rotate(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """RoPE on (n, heads, tokens, head_dim), in the one spelling that OpenVINO fuses (2026.4).

    Its pattern is two slices, the second one negated; a sign in the sine table, or a split, leaves
    it four operators: 3 % more time in bf16, 9 % in INT8 (docs/speed-notes.md).
    """
    half = vectors.shape[-1] // 2
    first, second = vectors[..., :half], vectors[..., half:]
    return vectors * cosine + torch.cat([-second, first], dim=-1) * sine


def _rope_tables(rope: Any, image_size: int, prefix: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each (prefix + patches, head_dim); prefix tokens do not turn."""
    rope.eval()
    cosine, sine = rope(torch.zeros(1, 3, image_size, image_size))  # (patches, head_dim)
    still = torch.zeros(prefix, cosine.shape[-1])
    return torch.cat([still + 1.0, cosine]).detach(), torch.cat([still, sine]).detach()


def _input_projections(attention: nn.MultiheadAttention) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Query, key and value projections of PyTorch's packed matrix."""
    weight = attention.in_proj_weight
    bias = attention.in_proj_bias
    if bias is None:
        bias = weight.new_zeros(len(weight))
    query, key, value = (linear(w, b) for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True))
    return query, key, value


def _own_attention(layer: Any) -> nn.Linear:
    """Self-attention of a single token: its softmax is 1, so out_proj(value(x)) remains."""
    _, _, value = _input_projections(layer.self_attn)
    return compose(layer.self_attn.out_proj, value)
