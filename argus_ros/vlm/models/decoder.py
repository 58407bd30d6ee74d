"""The language decoder: Llama with static key-value buffers, in plain torch operations.

A token's position is a tensor instead of a Python number, so that every step runs the same operations (as in
gpt-fast). They can be captured in a graph, and the sequences of a batch can differ in length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from argus_ros.vlm.models import rope
from argus_ros.vlm.models.architecture import TextShape
from argus_ros.vlm.models.elementwise import TORCH, Elementwise, Norm, Way
from argus_ros.vlm.models.weights import Weights

if TYPE_CHECKING:
    from argus_ros.vlm.models.fused import Fused

#: The buffers grow by multiples of this many tokens.
GRAIN = 256
#: Attention of up to this many queries uses plain matrix products on a GPU.
FEW = 32


@dataclass(frozen=True)
class _Layer:
    """One layer. Matrices are (in, out); contiguous on CPUs, where one token is 2 to 3 times faster so."""

    norm1: Tensor
    qkv: Tensor  #: (width, (heads + 2 * kv_heads) * head_dim)
    qkv_bias: Tensor
    out: Tensor
    norm2: Tensor
    gate_up: Tensor  #: (width, 2 * mlp)
    down: Tensor
    qk_norm: Tensor | None = None  #: (heads + kv_heads, head_dim) RMSNorm weights of queries and keys


class Decoder:
    """The weights, and the key-value buffers of several sequences, one row each.

    The decoder does not track the length of sequences: writing to a position replaces its content.
    """

    def __init__(self, weights: Weights, shape: TextShape) -> None:
        self.shape = shape
        d = shape.width
        prefixes = "model.text_model.", "model.language_model.", "language_model.model."
        prefix = next((p for p in prefixes if p + "norm.weight" in weights), prefixes[0])
        self.embedding = weights.take(prefix + "embed_tokens.weight", shape.vocabulary, d)
        names = "lm_head.weight", "language_model.lm_head.weight"
        head = next((name for name in names if name in weights), names[0])
        missing = head not in weights and shape.tied
        self.head = self.embedding if missing else weights.take(head, shape.vocabulary, d)
        self.norm = weights.take(prefix + "norm.weight", d)
        self.layers = [self._layer(weights, f"{prefix}layers.{i}.") for i in range(shape.layers)]
        self.fused: Fused | None = None  #: runs passes of few tokens where possible
        self.long = Way()  #: of passes of more than ``FEW`` tokens
        #: Causal passes need no mask.
        self.maskless = spares_scores(
            self.embedding.device, self.embedding.dtype, shape.heads != shape.kv_heads
        )
        self._allocate(1, GRAIN)

    def _layer(self, weights: Weights, prefix: str) -> _Layer:
        s, d = self.shape, self.shape.width
        rows = s.heads * s.head_dim, s.kv_heads * s.head_dim, s.kv_heads * s.head_dim
        qkv = [f"{prefix}self_attn.{n}_proj." for n in "qkv"]
        zero = self.embedding.new_zeros(sum(rows))
        bias = weights.cat([n + "bias" for n in qkv], *[(r,) for r in rows]) if s.qkv_bias else zero
        gate_up = [f"{prefix}mlp.{n}_proj.weight" for n in ("gate", "up")]
        return _Layer(
            norm1=weights.take(prefix + "input_layernorm.weight", d),
            qkv=_transposed(weights.cat([n + "weight" for n in qkv], *[(r, d) for r in rows])),
            qkv_bias=bias,
            out=_transposed(weights.take(prefix + "self_attn.o_proj.weight", d, rows[0])),
            norm2=weights.take(prefix + "post_attention_layernorm.weight", d),
            gate_up=_transposed(weights.cat(gate_up, *[(s.mlp, d)] * 2)),
            down=_transposed(weights.take(prefix + "mlp.down_proj.weight", d, s.mlp)),
            qk_norm=self._qk_norm(weights, prefix + "self_attn.") if s.qk_norm else None,
        )

    def _qk_norm(self, weights: Weights, prefix: str) -> Tensor:
        s = self.shape
        q, k = (weights.take(f"{prefix}{n}_norm.weight", s.head_dim) for n in "qk")
        return torch.cat([q.expand(s.heads, -1), k.expand(s.kv_heads, -1)])

    @property
    def rows(self) -> int:
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def reserve(self, rows: int, capacity: int) -> bool:
        """Make room for ``rows`` sequences of ``capacity`` tokens; returns whether the content was lost."""
        if rows <= self.rows and capacity <= self.capacity:
            return False
        self._allocate(max(rows, self.rows), max(-(-capacity // GRAIN) * GRAIN, self.capacity))
        return True

    def clear(self) -> None:
        """Empty all sequences."""
        self.keys.zero_()
        self.values.zero_()

    def _allocate(self, rows: int, capacity: int) -> None:
        s, like = self.shape, self.embedding
        # Unwritten positions are masked or cut off, but must be finite.
        keys = like.new_zeros(s.layers, rows, s.kv_heads, capacity, s.head_dim)
        values = torch.zeros_like(keys)
        frequency = rope.frequencies(s.rope, s.head_dim).to(like.device)
        angle = torch.arange(capacity, device=like.device)[:, None] * frequency
        cos = (torch.cat([angle.cos(), angle.cos()], -1) * s.rope.scale).to(like.dtype)
        sin = (torch.cat([-angle.sin(), angle.sin()], -1) * s.rope.scale).to(like.dtype)
        self.keys, self.values, self.cos, self.sin = keys, values, cos, sin  # all, or none without memory

    def embed(self, tokens: Tensor) -> Tensor:
        """(…) token ids to (…, width)."""
        return F.embedding(tokens, self.embedding)

    def __call__(self, x: Tensor, places: Tensor, reach: int, first: int = 0, start: int = -1) -> Tensor:
        """Run tokens (rows, n, width) at ``places`` (rows, n), in the rows from ``first`` on.

        A token attends to its own position and those before it. All positions are below ``reach``; in all
        rows they are ``start`` to ``reach``, where ``start`` is given. Returns the normalised hidden states
        (rows, n, width).
        """
        if self.fused and self.fused.takes(*x.shape[:2]):
            made = self.fused(x, places, reach, first)
            if made is not None:
                return made
        if x.shape[1] > FEW:
            return self.long.run(partial(self.plain, x, places, reach, first, start))
        return self.plain(x, places, reach, first, start)

    def plain(
        self,
        x: Tensor,
        places: Tensor,
        reach: int,
        first: int = 0,
        start: int = -1,
        ops: Elementwise = TORCH,
    ) -> Tensor:
        """The same without the fused kernels of few tokens."""
        s, (rows, count, width) = self.shape, x.shape
        group = s.heads // s.kv_heads
        x = x.flatten(0, 1).clone()
        mask = None
        if start < 0 or not self.maskless:
            future = torch.arange(reach, device=x.device) > places[..., None]
            mask = x.new_zeros(future.shape).masked_fill(future, -torch.inf).repeat(1, group, 1)[:, None]
        turn = ops.turning(self, places, first)
        for i, layer in enumerate(self.layers):
            h = ops.norm(x, Norm(layer.norm1, None, s.eps))
            qkv = torch.addmm(layer.qkv_bias, h, layer.qkv).view(rows * count, -1, s.head_dim)
            queries = turn(i, qkv)
            keys, values = (kept[i, first : first + rows, :, :reach] for kept in (self.keys, self.values))
            if mask is None:
                h = attend_all(queries, keys, values)
            else:  # queries of one group of heads are rows of one matrix
                queries = queries.unflatten(1, (s.kv_heads, group)).flatten(2, 3)
                h = attend(queries, keys, values, mask).unflatten(2, (group, count)).flatten(1, 2)
            h = h.transpose(1, 2).reshape(rows * count, -1)
            x.addmm_(h, layer.out)
            h = ops.norm(x, Norm(layer.norm2, None, s.eps))
            x.addmm_(ops.swiglu(h @ layer.gate_up), layer.down)
        return ops.norm(x, Norm(self.norm, None, s.eps)).view(rows, count, width)


def spares_scores(device: torch.device, dtype: torch.dtype, grouped: bool) -> bool:
    """Whether a kernel runs causal attention without a mask and without storing all scores.

    CUDA's kernel for grouped heads needs half precision and compute capability 8.0.
    """
    if device.type != "cuda" or not grouped:
        return True
    half = dtype in (torch.float16, torch.bfloat16)
    return half and torch.cuda.get_device_capability(device) >= (8, 0)


def attend_all(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention of the last (rows, heads, n, head_dim) over (rows, kv_heads, reach, head_dim).

    Causal kernels skip later positions and need no mask. They number queries from the first position on, so
    dummy queries are put in front, and their results dropped.
    """
    front = keys.shape[2] - queries.shape[2]
    queries = F.pad(queries, (0, 0, front, 0))
    grouped = queries.shape[1] != keys.shape[1]
    h = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=grouped)
    return h[:, :, front:]


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention of (rows, heads, n, head_dim) over (rows, heads, reach, head_dim); ``mask`` is added."""
    if queries.is_cuda and queries.shape[2] <= FEW:
        return attend_few(queries, keys, values, mask)
    return F.scaled_dot_product_attention(queries, keys, values, mask)


def attend_few(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The same with plain matrix products, which use a GPU better for few queries."""
    rows, heads, count, width = queries.shape
    mask = mask.expand(rows, heads, count, -1).flatten(0, 1)
    scores = torch.baddbmm(mask, queries.flatten(0, 1), keys.flatten(0, 1).mT, alpha=width**-0.5)
    return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).unflatten(0, (rows, heads))


def _transposed(weight: Tensor) -> Tensor:
    """(out, in) to (in, out). On a GPU it is a view, as kernels read rows of (out, in)."""
    return weight.t() if weight.is_cuda else weight.t().contiguous()
