"""What is between the matrix products of a prompt and of the vision encoder, in two ways.

``Torch`` uses torch's operations. ``Kernels`` uses fewer and larger kernels in Triton (recipe
``fused_kernels``, ``row_kernels.py``), with the same results up to rounding.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from argus_ros.vlm.models.architecture import TextShape, VisionShape
    from argus_ros.vlm.models.decoder import Decoder

log = logging.getLogger(__name__)

#: Numbers of a row that one program computes at most, and numbers per warp.
BLOCK, PER_WARP = 1024, 256

Affine = tuple[Tensor, Tensor]  #: (out, in) and (out,)
#: RoPE of layer ``i``: from (rows * n, heads + 2 * kv_heads, head_dim) keys and values go into the cache, and
#: queries are returned, (rows, heads, n, head_dim).
Turn = Callable[[int, Tensor], Tensor]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Norm:
    """LayerNorm, or RMSNorm where there is no bias."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Elementwise(Protocol):
    """The operations between matrix products. All tensors are contiguous."""

    def norm(self, x: Tensor, norm: Norm) -> Tensor: ...

    def turning(self, decoder: Decoder, places: Tensor, first: int) -> Turn:
        """For tokens at ``places`` (rows, n) of the rows from ``first`` on."""

    def swiglu(self, x: Tensor) -> Tensor:
        """(n, 2 * mlp), gates and values, to (n, mlp)."""

    def activated(self, x: Tensor, up: Affine, kind: str) -> Tensor:
        """GELU of a product; ``kind`` as in ``F.gelu``."""

    def residual(self, x: Tensor, h: Tensor, out: Affine, norm: Norm | None) -> tuple[Tensor, Tensor]:
        """``x`` with the product of ``h`` added, and that normalised."""


class Torch:
    """torch's operations."""

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        return norm(x)

    def turning(self, decoder: Decoder, places: Tensor, first: int) -> Turn:
        s, d, (rows, count) = decoder.shape, decoder, places.shape
        rotated = s.heads + s.kv_heads
        cos, sin = d.cos[places].flatten(0, 1)[:, None], d.sin[places].flatten(0, 1)[:, None]
        # The indices of the new keys and values in a layer's buffer, flattened to (rows * n, kv_heads).
        row = torch.arange(first, first + rows, device=places.device)[:, None, None] * s.kv_heads
        head = row + torch.arange(s.kv_heads, device=places.device)
        place = (head * d.capacity + places[..., None]).flatten(0, 1)

        def turn(i: int, qkv: Tensor) -> Tensor:
            qk, scale = qkv[:, :rotated], d.layers[i].qk_norm
            if scale is not None:
                qk = F.rms_norm(qk, (s.head_dim,), None, s.eps) * scale
            qk = torch.addcmul(qk * cos, qk.roll(s.head_dim // 2, -1), sin)
            d.keys[i].view(-1, s.head_dim)[place] = qk[:, s.heads :]
            d.values[i].view(-1, s.head_dim)[place] = qkv[:, rotated:]
            return qk[:, : s.heads].view(rows, count, s.heads, -1).transpose(1, 2)

        return turn

    def swiglu(self, x: Tensor) -> Tensor:
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up

    def activated(self, x: Tensor, up: Affine, kind: str) -> Tensor:
        return gelu(F.linear(x, *up), kind)

    def residual(self, x: Tensor, h: Tensor, out: Affine, norm: Norm | None) -> tuple[Tensor, Tensor]:
        x = x + F.linear(h, *out)
        return x, norm(x) if norm else x


class Kernels:
    """Triton's kernels. Raises what its compiler or the driver raise."""

    def __init__(self) -> None:
        from argus_ros.vlm.models import row_kernels

        self._kernels = row_kernels

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        return self._residual(x, None, None, norm)[1]

    def _residual(
        self, x: Tensor, add: Tensor | None, bias: Tensor | None, norm: Norm | None
    ) -> tuple[Tensor, Tensor]:
        n = x.shape[-1]
        to = x if add is None else torch.empty_like(x)
        y = torch.empty_like(x) if norm else to
        padded = _power(n)
        self._kernels.residual_norm[x.numel() // n,](
            x,
            x if add is None else add,
            x if bias is None else bias,
            to,
            x if norm is None else norm.weight,
            x if norm is None or norm.bias is None else norm.bias,
            y,
            norm.eps if norm else 0.0,
            N=n,
            NP=padded,
            ADD=add is not None,
            BIAS=bias is not None,
            NORM=norm is not None,
            RMS=norm is not None and norm.bias is None,
            num_warps=_warps(padded),
        )
        return to, y

    def turning(self, decoder: Decoder, places: Tensor, first: int) -> Turn:
        s, d, (rows, count) = decoder.shape, decoder, places.shape
        places = places.contiguous()
        sides, half = _power(s.heads + 2 * s.kv_heads), _power(s.head_dim // 2)

        def turn(i: int, qkv: Tensor) -> Tensor:
            q = qkv.new_empty(rows, s.heads, count, s.head_dim)
            self._kernels.turn[rows * count,](
                qkv, d.cos, d.sin, places, q, d.keys[i], d.values[i], count, first, d.capacity,
                HEADS=s.heads, KV=s.kv_heads, HD=s.head_dim, SIDES=sides, HALF=half,
                num_warps=_warps(2 * sides * half),
            )  # fmt: skip
            return q

        return turn

    def swiglu(self, x: Tensor) -> Tensor:
        rows, n = x.shape[0], x.shape[1] // 2
        y, block = x.new_empty(rows, n), min(BLOCK, _power(n))
        self._kernels.swiglu[rows, -(-n // block)](x, y, N=n, BN=block, num_warps=_warps(block))
        return y

    def activated(self, x: Tensor, up: Affine, kind: str) -> Tensor:
        made, n = F.linear(x, up[0]), len(up[1])
        block = min(BLOCK, _power(n))
        self._kernels.gelu[made.numel() // n, -(-n // block)](
            made, up[1], N=n, BN=block, TANH=kind == "tanh", num_warps=_warps(block)
        )
        return made

    def residual(self, x: Tensor, h: Tensor, out: Affine, norm: Norm | None) -> tuple[Tensor, Tensor]:
        return self._residual(x, F.linear(h, out[0]), out[1], norm)


def sizes(text: TextShape, vision: VisionShape) -> Iterator[tuple[str, dict[str, int]]]:
    """The kernels of a model with their compile-time constants, to compile them for another device."""
    flags = {"ADD": False, "BIAS": False, "NORM": True, "RMS": True}
    yield "residual_norm", {"N": text.width, "NP": _power(text.width), **flags}
    flags = {"ADD": True, "BIAS": True, "NORM": True, "RMS": vision.rms_norm}
    yield "residual_norm", {"N": vision.width, "NP": _power(vision.width), **flags}
    for tanh in (False, True):
        yield "gelu", {"N": vision.mlp, "BN": min(BLOCK, _power(vision.mlp)), "TANH": tanh}
    yield "swiglu", {"N": text.mlp, "BN": min(BLOCK, _power(text.mlp))}
    heads, kv_heads = text.heads, text.kv_heads
    tile = {"SIDES": _power(heads + 2 * kv_heads), "HALF": _power(text.head_dim // 2)}
    yield "turn", {"HEADS": heads, "KV": kv_heads, "HD": text.head_dim, **tile}


TORCH = Torch()


class Way:
    """The way that is in use. Kernels that fail are turned off, with one line in the log."""

    def __init__(self, kernels: Kernels | None = None) -> None:
        self.kernels = kernels  #: None: torch's operations

    def run(self, work: Callable[[Elementwise], Made]) -> Made:
        if self.kernels:
            try:
                return work(self.kernels)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # of an unknown compiler, driver or GPU
                self.kernels = None
                line = " ".join(str(error).split())[:300]
                log.warning("the kernels for long rows are off from here on: %s", line)
        return work(TORCH)


def gelu(x: Tensor, kind: str) -> Tensor:
    """``F.gelu``; on the CPU its approximation by tanh, (1 + tanh u) / 2, as sigmoid 2u: half as long.

    Only in float32: in half precision each of these operations would round, and ``F.gelu`` rounds once.
    """
    if kind != "tanh" or x.device.type != "cpu" or x.dtype != torch.float32:
        return F.gelu(x, approximate=kind)
    twice = (8 / math.pi) ** 0.5
    return (x * x).mul_(0.044715 * twice).add_(twice).mul_(x).sigmoid_().mul_(x)


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def _warps(numbers: int) -> int:
    return min(8, max(1, numbers // PER_WARP))
