"""The tongue: a Llama decoder over static key-value buffers, without a framework between steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from argus_ros.vlm.architecture import TextShape
from argus_ros.vlm.weights import Weights


@dataclass(frozen=True)
class _Layer:
    """Matrices are (in, out) and contiguous: one token is multiplied two to three times faster so on CPUs."""

    norm1: Tensor
    qkv: Tensor  #: (width, (heads + 2 * kv_heads) * head_dim)
    qkv_bias: Tensor
    out: Tensor
    norm2: Tensor
    gate_up: Tensor  #: (width, 2 * mlp)
    down: Tensor


class Decoder:
    """One sequence at a time. Keys and values up to ``length`` are valid; less forgets the rest."""

    def __init__(self, weights: Weights, shape: TextShape) -> None:
        self.shape = shape
        d = shape.width
        prefixes = "model.text_model.", "model.language_model.", "language_model.model."
        prefix = next((p for p in prefixes if p + "norm.weight" in weights), prefixes[0])
        self.embedding = weights.take(prefix + "embed_tokens.weight", shape.vocabulary, d)
        heads = [name for name in ("lm_head.weight", "language_model.lm_head.weight") if name in weights]
        self.head = weights.take(heads[0], shape.vocabulary, d) if heads else self.embedding
        self.norm = weights.take(prefix + "norm.weight", d)
        self.layers = [self._layer(weights, f"{prefix}layers.{i}.") for i in range(shape.layers)]
        self.length = 0
        self._reserve(256)

    def _layer(self, weights: Weights, prefix: str) -> _Layer:
        s, d = self.shape, self.shape.width
        rows = s.heads * s.head_dim, s.kv_heads * s.head_dim, s.kv_heads * s.head_dim
        qkv = [f"{prefix}self_attn.{n}_proj." for n in "qkv"]
        zero = self.embedding.new_zeros(sum(rows))
        bias = weights.cat([n + "bias" for n in qkv], *[(r,) for r in rows]) if s.qkv_bias else zero
        gate_up = [f"{prefix}mlp.{n}_proj.weight" for n in ("gate", "up")]
        return _Layer(
            norm1=weights.take(prefix + "input_layernorm.weight", d),
            qkv=_turn(weights.cat([n + "weight" for n in qkv], *[(r, d) for r in rows])),
            qkv_bias=bias,
            out=_turn(weights.take(prefix + "self_attn.o_proj.weight", d, rows[0])),
            norm2=weights.take(prefix + "post_attention_layernorm.weight", d),
            gate_up=_turn(weights.cat(gate_up, *[(s.mlp, d)] * 2)),
            down=_turn(weights.take(prefix + "mlp.down_proj.weight", d, s.mlp)),
        )

    @property
    def capacity(self) -> int:
        return self.keys.shape[2]

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` tokens; what the buffers held is lost when they have to grow."""
        if capacity > self.capacity:
            self._reserve(min(self.shape.context, max(capacity, 2 * self.capacity)))

    def _reserve(self, capacity: int) -> None:
        s, like = self.shape, self.embedding
        capacity = min(capacity, s.context)
        self.length = 0
        # One row per layer; unwritten places are masked or cut off, but must be finite.
        self.keys = like.new_zeros(s.layers, s.kv_heads, capacity, s.head_dim)
        self.values = torch.zeros_like(self.keys)
        frequency = s.rope_theta ** -(torch.arange(0, s.head_dim, 2, device=like.device).float() / s.head_dim)
        angle = torch.arange(capacity, device=like.device)[:, None] * frequency
        self.cos = torch.cat([angle.cos(), angle.cos()], -1).to(like.dtype)[:, None]
        self.sin = torch.cat([-angle.sin(), angle.sin()], -1).to(like.dtype)[:, None]

    def embed(self, tokens: Tensor) -> Tensor:
        """(n,) token ids to (n, width)."""
        return F.embedding(tokens, self.embedding)

    def __call__(self, x: Tensor) -> Tensor:
        """Append (n, width) to the sequence; returns the normed hidden states (n, width)."""
        s = self.shape
        count = len(x)
        start, end = self.length, self.length + count
        cos, sin = self.cos[start:end], self.sin[start:end]
        # A new token sees all before it and itself; a single one sees everything.
        mask = None if count == 1 else x.new_ones(count, end, dtype=torch.bool).tril(start)
        rotated, heads = s.heads + s.kv_heads, (s.heads, s.kv_heads, s.kv_heads)
        for i, layer in enumerate(self.layers):
            h = F.rms_norm(x, (s.width,), layer.norm1, s.eps)
            qkv = torch.addmm(layer.qkv_bias, h, layer.qkv).view(count, sum(heads), s.head_dim)
            qk = qkv[:, :rotated]
            qk = torch.addcmul(qk * cos, qk.roll(s.head_dim // 2, -1), sin)
            keys, values = self.keys[i, :, :end], self.values[i, :, :end]
            keys[:, start:] = qk[:, s.heads :].transpose(0, 1)
            values[:, start:] = qkv[:, rotated:].transpose(0, 1)
            h = F.scaled_dot_product_attention(
                qk[None, :, : s.heads].transpose(1, 2),
                keys[None],
                values[None],
                mask,
                enable_gqa=s.heads != s.kv_heads,
            )
            x = torch.addmm(x, h[0].transpose(0, 1).reshape(count, -1), layer.out)
            h = F.rms_norm(x, (s.width,), layer.norm2, s.eps)
            gate, up = (h @ layer.gate_up).chunk(2, -1)
            x = torch.addmm(x, F.silu(gate) * up, layer.down)
        self.length = end
        return F.rms_norm(x, (s.width,), self.norm, s.eps)


def _turn(weight: Tensor) -> Tensor:
    """(out, in) to (in, out)."""
    return weight.t().contiguous()
