"""The vision encoder: a vision transformer on uint8 tiles, pixel-unshuffle and a projection.

SigLIP (SmolVLM and Idefics3) and InternViT (InternVL3) differ in a few parts: a class token, scaled
residuals, the exact GELU, no last norm, a deeper projection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from argus_ros.core.checkpoint import Checkpoint, image_processor
from argus_ros.core.families import Family
from argus_ros.vlm.models.architecture import VisionShape
from argus_ros.vlm.models.elementwise import TORCH, Elementwise, Norm, Way
from argus_ros.vlm.models.weights import Weights


@dataclass(frozen=True)
class Normalisation:
    """``(pixel * scale - mean) / std`` per channel, from the checkpoint's image processor."""

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @staticmethod
    def read(checkpoint: Checkpoint) -> Normalisation:
        settings = image_processor(checkpoint.path)
        std = settings.channels("image_std", 0.5)
        if min(std) <= 0:
            raise settings.error("image_std", "above 0")
        return Normalisation(
            settings.number("rescale_factor", 1 / 255), settings.channels("image_mean", 0.5), std
        )

    def apply(self, tiles: Tensor) -> Tensor:
        """(…, 3) uint8 to float32."""
        mean, std = (torch.tensor(v, device=tiles.device) for v in (self.mean, self.std))
        return (tiles.float() * self.scale - mean) / std

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert a patch embedding of normalised pixels, (width, patch, patch, 3), to one of raw pixels."""
        mean, std = (torch.tensor(v, device=bias.device) for v in (self.mean, self.std))
        return weight * (self.scale / std), bias - (weight * (mean / std)).sum((1, 2, 3))


@dataclass(frozen=True)
class _Layer:
    norm1: Norm
    qkv: tuple[Tensor, Tensor | None]
    out: tuple[Tensor, Tensor]
    norm2: Norm
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    qk_norm: tuple[Norm, Norm] | None = None


@dataclass(frozen=True)
class _Parts:
    """The parts of a family's vision encoder."""

    patch: tuple[Tensor, Tensor]  #: float32, (width, patch, patch, 3) and (width,)
    position: Tensor  #: (patches, width), row by row
    layers: list[_Layer]
    project: Callable[[Tensor], Tensor]  #: (…, width * unshuffle²) to (…, text width)
    gelu: str
    norm: Norm | None = None
    first: Tensor | None = None  #: (1, width) class token with its position


class VisionTower:
    """Converts tiles (tiles, side, side, 3) to visual tokens (tiles * tokens, text width).

    Patches are in the order in which pixel-unshuffle groups them, so that unshuffling is a view. With
    ``folded``, tiles are uint8 and the patch embedding includes the normalisation, in float32; otherwise they
    are normalised float32.
    """

    def __init__(
        self,
        weights: Weights,
        family: Family,
        shape: VisionShape,
        text_width: int,
        normalisation: Normalisation,
        folded: bool,
    ) -> None:
        self.shape, self.way = shape, Way()
        self.parts = parts = TOWERS[family.tower](weights, shape, text_width)
        weight, bias = normalisation.fold(*parts.patch) if folded else parts.patch
        self._patch = weight.reshape(shape.width, -1).contiguous(), bias
        self._position = self._block_order(parts.position.unflatten(0, (shape.side, shape.side))).flatten(
            0, 1
        )

    def _block_order(self, grid: Tensor) -> Tensor:
        """(side, side, …) to (blocks, unshuffle², …): the patches that become one token are adjacent."""
        blocks, u = self.shape.side // self.shape.unshuffle, self.shape.unshuffle
        return (
            grid.unflatten(0, (blocks, u))
            .unflatten(2, (blocks, u))
            .transpose(1, 2)
            .flatten(2, 3)
            .flatten(0, 1)
        )

    def _patches(self, tiles: Tensor) -> Tensor:
        """(T, side, side, 3) to (T, patches, patch * patch * 3) float32, in block order."""
        count, patch, u = len(tiles), self.shape.patch, self.shape.unshuffle
        blocks, seen = self.shape.side // u, self.shape.side * patch
        grid = tiles[:, :seen, :seen].reshape(count, blocks, u, patch, blocks, u, patch * 3)
        return grid.permute(0, 1, 4, 2, 5, 3, 6).reshape(count, self.shape.side**2, -1).float()

    def __call__(self, tiles: Tensor) -> Tensor:
        return self.way.run(partial(self.encode, tiles))

    def encode(self, tiles: Tensor, ops: Elementwise = TORCH) -> Tensor:
        s, parts = self.shape, self.parts
        x = F.linear(self._patches(tiles), *self._patch).to(self._position.dtype) + self._position
        if parts.first is not None:
            x = torch.cat([parts.first.expand(len(tiles), 1, -1), x], 1)
        count, patches = x.shape[:2]
        h = ops.norm(x, parts.layers[0].norm1)
        for layer, after in zip(
            parts.layers, [*(of.norm1 for of in parts.layers[1:]), parts.norm], strict=True
        ):
            qkv = F.linear(h, *layer.qkv)
            if layer.qk_norm is not None:
                q, k, v = qkv.chunk(3, -1)
                qkv = torch.cat([layer.qk_norm[0](q), layer.qk_norm[1](k), v], -1)
            q, k, v = qkv.view(count, patches, 3, s.heads, -1).permute(2, 0, 3, 1, 4)
            h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
            x, h = ops.residual(x, h, layer.out, layer.norm2)
            x, h = ops.residual(x, ops.activated(h, layer.up, parts.gelu), layer.down, after)
        if parts.first is not None:
            h = h[:, 1:]
        return parts.project(h.reshape(count * s.tokens, -1))


def position_ids(side: int) -> Tensor:
    """(side, side) rows of SigLIP's position table for a full tile.

    The stock models compute them by bucketing fractions in float32, where rounding shifts some of them at
    some sizes. The weights were trained like this, so the arithmetic is the same here.
    """
    boundaries = torch.arange(1 / side, 1.0, 1 / side)
    fractions = torch.arange(side, dtype=torch.float32) * (1.0 / torch.tensor(side))
    bucket = torch.bucketize(fractions.clamp(max=1.0 - 1e-6), boundaries, right=True)
    return bucket[:, None] * side + bucket[None, :]


def _siglip(weights: Weights, shape: VisionShape, text_width: int) -> _Parts:
    d, mlp = shape.width, shape.mlp
    prefix = "model.vision_model."
    table = weights.take(prefix + "embeddings.position_embedding.weight", shape.side**2, d)
    projection = weights.take(
        "model.connector.modality_projection.proj.weight", text_width, d * shape.unshuffle**2
    )

    def layer(name: str) -> _Layer:
        return _Layer(
            norm1=_norm(weights, name + "layer_norm1", shape),
            qkv=_qkv(weights, name + "self_attn.", d, True),
            out=_affine(weights, name + "self_attn.out_proj", d, d),
            norm2=_norm(weights, name + "layer_norm2", shape),
            up=_affine(weights, name + "mlp.fc1", mlp, d),
            down=_affine(weights, name + "mlp.fc2", d, mlp),
        )

    return _Parts(
        patch=_patch(weights, prefix + "embeddings.patch_embedding", shape),
        position=table[position_ids(shape.side).flatten().to(table.device)],
        layers=[layer(f"{prefix}encoder.layers.{i}.") for i in range(shape.layers)],
        project=lambda x: F.linear(x, projection),
        gelu="tanh",
        norm=_norm(weights, prefix + "post_layernorm", shape),
    )


def _intern(weights: Weights, shape: VisionShape, text_width: int) -> _Parts:
    d, mlp, wide = shape.width, shape.mlp, shape.width * shape.unshuffle**2
    root = "model." if "model.vision_tower.embeddings.cls_token" in weights else ""
    prefix, projector = root + "vision_tower.", root + "multi_modal_projector."
    table = weights.take(prefix + "embeddings.position_embeddings", 1, shape.side**2 + 1, d)[0]
    norm = _affine(weights, projector + "layer_norm", wide)
    first = _affine(weights, projector + "linear_1", text_width, wide)
    second = _affine(weights, projector + "linear_2", text_width, text_width)

    def scaled(scale: str, name: str, width: int) -> tuple[Tensor, Tensor]:
        """Multiply a residual's scale into the matrix before it."""
        by = weights.take(scale, d)
        weight, bias = _affine(weights, name, d, width)
        return by[:, None] * weight, by * bias

    def qk_norm(name: str) -> tuple[Norm, Norm]:
        q, k = (weights.take(f"{name}{n}_norm.weight", d) for n in "qk")
        return Norm(q, None, 1e-6), Norm(k, None, 1e-6)  # independent of layer_norm_eps

    def layer(name: str) -> _Layer:
        return _Layer(
            norm1=_norm(weights, name + "layernorm_before", shape),
            qkv=_qkv(weights, name + "attention.", d, shape.qkv_bias),
            out=scaled(name + "lambda_1", name + "attention.projection_layer", d),
            norm2=_norm(weights, name + "layernorm_after", shape),
            up=_affine(weights, name + "mlp.fc1", mlp, d),
            down=scaled(name + "lambda_2", name + "mlp.fc2", mlp),
            qk_norm=qk_norm(name + "attention.") if shape.qk_norm else None,
        )

    return _Parts(
        patch=_patch(weights, prefix + "embeddings.patch_embeddings.projection", shape),
        position=table[1:],
        layers=[layer(f"{prefix}encoder.layer.{i}.") for i in range(shape.layers)],
        project=lambda x: F.linear(F.gelu(F.linear(F.layer_norm(x, (wide,), *norm), *first)), *second),
        gelu="none",
        first=weights.take(prefix + "embeddings.cls_token", 1, 1, d)[0] + table[:1],
    )


#: The vision encoders, by a family's tower.
TOWERS: dict[str, Callable[[Weights, VisionShape, int], _Parts]] = {"siglip": _siglip, "internvit": _intern}


def _norm(weights: Weights, name: str, shape: VisionShape) -> Norm:
    if shape.rms_norm:
        return Norm(weights.take(name + ".weight", shape.width), None, shape.eps)
    return Norm(*_affine(weights, name, shape.width), shape.eps)


def _patch(weights: Weights, name: str, shape: VisionShape) -> tuple[Tensor, Tensor]:
    size = shape.width, 3, shape.patch, shape.patch
    weight = weights.take(name + ".weight", *size, dtype=torch.float32).permute(0, 2, 3, 1)
    return weight, weights.take(name + ".bias", shape.width, dtype=torch.float32)


def _qkv(weights: Weights, prefix: str, width: int, bias: bool) -> tuple[Tensor, Tensor | None]:
    names = [f"{prefix}{n}_proj" for n in "qkv"]
    weight = weights.cat([n + ".weight" for n in names], *[(width, width)] * 3)
    return weight, weights.cat([n + ".bias" for n in names], *[(width,)] * 3) if bias else None


def _affine(weights: Weights, name: str, *shape: int) -> tuple[Tensor, Tensor]:
    return weights.take(name + ".weight", *shape), weights.take(name + ".bias", shape[0])
