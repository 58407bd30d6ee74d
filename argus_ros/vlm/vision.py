"""The eyes: a SigLIP-style ViT on uint8 tiles, pixel-unshuffle and a projection to the decoder's width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from argus_ros.core.checkpoint import Checkpoint, image_processor
from argus_ros.vlm.architecture import VisionShape
from argus_ros.vlm.weights import Weights


@dataclass(frozen=True)
class Normalisation:
    """``(pixel * scale - mean) / std`` per channel, as the image processor of the checkpoint has it."""

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @staticmethod
    def read(checkpoint: Checkpoint) -> Normalisation:
        settings = image_processor(checkpoint.path)
        default = Normalisation()
        return Normalisation(
            settings.get("rescale_factor", default.scale),
            tuple(settings.get("image_mean", default.mean)),
            tuple(settings.get("image_std", default.std)),
        )

    def apply(self, tiles: Tensor) -> Tensor:
        """(…, 3) uint8 to float32."""
        mean, std = (torch.tensor(v, device=tiles.device) for v in (self.mean, self.std))
        return (tiles.float() * self.scale - mean) / std


@dataclass(frozen=True)
class _Layer:
    norm1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]


class VisionTower:
    """Tiles (tiles, side, side, 3) to visual tokens (tiles * tokens, text width).

    Patches are taken in the order in which pixel-unshuffle groups them, so that unshuffling is a view. With
    ``folded``, tiles are uint8 and the normalisation is part of the patch embedding, in float32; otherwise
    they are normalised float32.
    """

    def __init__(
        self,
        weights: Weights,
        shape: VisionShape,
        text_width: int,
        normalisation: Normalisation,
        folded: bool,
    ) -> None:
        self.shape = shape
        width, patch = shape.width, shape.patch
        prefix = "model.vision_model."
        name = prefix + "embeddings.patch_embedding."
        embedding = weights.take(name + "weight", width, 3, patch, patch, dtype=torch.float32).permute(
            0, 2, 3, 1
        )
        bias = weights.take(name + "bias", width, dtype=torch.float32)
        if folded:
            mean, std = (torch.tensor(v, device=bias.device) for v in (normalisation.mean, normalisation.std))
            bias = bias - (embedding * (mean / std)).sum((1, 2, 3))
            embedding = embedding * (normalisation.scale / std)
        self.patch_weight = embedding.reshape(width, -1).contiguous()
        self.patch_bias = bias
        table = weights.take(prefix + "embeddings.position_embedding.weight", shape.side**2, width)
        self.position = table[self._block_order(position_ids(shape.side)).flatten().to(table.device)]
        self.layers = [self._layer(weights, f"{prefix}encoder.layers.{i}.") for i in range(shape.layers)]
        self.norm = _affine(weights, prefix + "post_layernorm", width)
        self.projection = weights.take(
            "model.connector.modality_projection.proj.weight", text_width, width * shape.unshuffle**2
        )

    def _layer(self, weights: Weights, prefix: str) -> _Layer:
        d, mlp = self.shape.width, self.shape.mlp
        qkv = [f"{prefix}self_attn.{n}_proj" for n in "qkv"]
        return _Layer(
            norm1=_affine(weights, prefix + "layer_norm1", d),
            qkv=(
                weights.cat([n + ".weight" for n in qkv], *[(d, d)] * 3),
                weights.cat([n + ".bias" for n in qkv], *[(d,)] * 3),
            ),
            out=_affine(weights, prefix + "self_attn.out_proj", d, d),
            norm2=_affine(weights, prefix + "layer_norm2", d),
            up=_affine(weights, prefix + "mlp.fc1", mlp, d),
            down=_affine(weights, prefix + "mlp.fc2", d, mlp),
        )

    def _block_order(self, grid: Tensor) -> Tensor:
        """(side, side, …) to (blocks, unshuffle², …): the patches that become one token stand together."""
        s, u = self.shape.side, self.shape.unshuffle
        return (
            grid.unflatten(0, (s // u, u))
            .unflatten(2, (s // u, u))
            .transpose(1, 2)
            .flatten(2, 3)
            .flatten(0, 1)
        )

    def patches(self, tiles: Tensor) -> Tensor:
        """(T, side, side, 3) to (T, patches, patch * patch * 3) float32, in block order."""
        count, patch, u = len(tiles), self.shape.patch, self.shape.unshuffle
        blocks = self.shape.side // u
        grid = tiles.view(count, blocks, u, patch, blocks, u, patch * 3)
        return grid.permute(0, 1, 4, 2, 5, 3, 6).reshape(count, self.shape.side**2, -1).float()

    def __call__(self, tiles: Tensor) -> Tensor:
        s = self.shape
        x = (
            F.linear(self.patches(tiles), self.patch_weight, self.patch_bias).to(self.position.dtype)
            + self.position
        )
        tiles_, patches, width = x.shape
        for layer in self.layers:
            h = F.layer_norm(x, (width,), *layer.norm1, s.eps)
            q, k, v = F.linear(h, *layer.qkv).view(tiles_, patches, 3, s.heads, -1).permute(2, 0, 3, 1, 4)
            h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
            x = x + F.linear(h, *layer.out)
            h = F.layer_norm(x, (width,), *layer.norm2, s.eps)
            x = x + F.linear(F.gelu(F.linear(h, *layer.up), approximate="tanh"), *layer.down)
        x = F.layer_norm(x, (width,), *self.norm, s.eps)
        return F.linear(x.view(tiles_ * s.tokens, -1), self.projection)


def position_ids(side: int) -> Tensor:
    """(side, side) rows of the position table for a full tile.

    The stock models find them by bucketing fractions in float32, whose rounding moves some of them at some
    sizes; the weights were trained so, hence the same arithmetic.
    """
    boundaries = torch.arange(1 / side, 1.0, 1 / side)
    fractions = torch.arange(side, dtype=torch.float32) * (1.0 / torch.tensor(side))
    bucket = torch.bucketize(fractions.clamp(max=1.0 - 1e-6), boundaries, right=True)
    return bucket[:, None] * side + bucket[None, :]


def _affine(weights: Weights, name: str, *shape: int) -> tuple[Tensor, Tensor]:
    return weights.take(name + ".weight", *shape), weights.take(name + ".bias", shape[0])
