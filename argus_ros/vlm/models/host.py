"""Decode passes on the CPU: compiled C code, or numpy where there is no compiler.

One token in a model of a few million parameters takes a hundred small operations, and calling them takes most
of the time: a call in numpy takes a fraction of one in torch, and ``host.c`` makes none. Weights and
key-value buffers are those of the decoder, so that prompts run in torch without copies.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from argus_ros.vlm.models import compiler
from argus_ros.vlm.models.decoder import Decoder

log = logging.getLogger(__name__)

#: The tokens to append to a sequence: row and first position in the buffers, (n,) token ids.
Segment = tuple[int, int, np.ndarray]
#: Appends tokens to several sequences; returns normalised hidden states (tokens, width) in order.
Steps = Callable[[Sequence[Segment]], np.ndarray]

SOURCE = Path(__file__).with_name("host.c")
#: Number of tokens that numpy multiplies together: OpenBLAS has kernels for such small products, and for
#: larger ones it first copies the whole matrix.
ROWS = 4
#: Of a decoder's layer, in the order of host.c.
WEIGHTS = "norm1", "qkv", "qkv_bias", "out", "norm2", "gate_up", "down", "qk_norm"
#: Largest difference between the compiled and the numpy pass, as a part of the largest value.
TOLERANCE = 1e-4


def steps_for(decoder: Decoder) -> Steps:
    """The fastest way to append tokens to the sequences of a float32 decoder on the CPU, which are lost."""
    plain = NumpySteps(decoder)
    try:
        compiled = CompiledSteps(decoder)
        compiled.check(plain)
    except compiler.CompileError as error:
        log.info("decode passes run in numpy, two to three times slower than compiled: %s", error)
        return plain
    finally:
        decoder.clear()
    return compiled


class CompiledSteps:
    """Appends tokens by ``host.c``."""

    def __init__(self, decoder: Decoder) -> None:
        """Compile and load it. Raises CompileError."""
        self._decode = compiler.load(SOURCE).decode
        self._decode.restype = None
        self._decoder, shape = decoder, decoder.shape
        self._layers = (_Layer * shape.layers)()
        for ours, layer in zip(self._layers, decoder.layers, strict=True):
            for name in WEIGHTS:
                weight = getattr(layer, name)
                setattr(ours, name, None if weight is None else _address(weight))
        sizes = shape.layers, shape.width, shape.heads, shape.kv_heads, shape.head_dim, shape.mlp
        layers = ctypes.addressof(self._layers)
        self._model = _Decoder(*sizes, shape.eps, layers, _address(decoder.embedding), _address(decoder.norm))
        products = (shape.heads + 2 * shape.kv_heads) * shape.head_dim, 2 * shape.mlp
        self._room = shape.width + shape.heads * shape.head_dim + max(products)  # of scratch, for each token

    def check(self, plain: Steps) -> None:
        """Compare with another way on some tokens. Raises CompileError where it differs."""
        tokens = np.arange(7) % self._decoder.shape.vocabulary
        segments = [(0, 0, tokens), (0, 7, tokens[:1])]
        for segment in segments:
            expected, found = plain([segment]), self([segment])
            if np.isfinite(expected).all() and not (
                np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
            ):
                raise compiler.CompileError("the compiled code gives other results on this processor")

    def __call__(self, segments: Sequence[Segment]) -> np.ndarray:
        decoder, counts = self._decoder, [len(tokens) for _, _, tokens in segments]
        count = sum(counts)
        tokens = np.concatenate([tokens for _, _, tokens in segments]).astype(np.int64, copy=False)
        row = np.repeat(np.array([row for row, _, _ in segments]), counts)
        place = np.concatenate(
            [np.arange(start, start + n) for (_, start, _), n in zip(segments, counts, strict=True)]
        )
        states = np.empty((count, decoder.shape.width), np.float32)
        scratch = np.empty(count * self._room + decoder.capacity, np.float32)
        buffers = _Buffers(
            *(decoder.rows, decoder.capacity),
            *map(_address, (decoder.keys, decoder.values, decoder.cos, decoder.sin)),
        )
        arrays = (ctypes.c_void_p(array.ctypes.data) for array in (tokens, row, place, scratch, states))
        self._decode(ctypes.byref(self._model), ctypes.byref(buffers), ctypes.c_int64(count), *arrays)
        return states


# The structures of host.c.


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in WEIGHTS]


class _Decoder(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("layers", "width", "heads", "kv_heads", "head_dim", "mlp")),
        ("eps", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("layer", "embedding", "norm")),
    ]


class _Buffers(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "capacity")),
        *((name, ctypes.c_void_p) for name in ("keys", "values", "cos", "sin")),
    ]


def _address(weight: torch.Tensor) -> int:
    assert weight.is_contiguous()
    assert weight.dtype == torch.float32
    return weight.data_ptr()


class NumpySteps:
    """Appends tokens by numpy. Its weights and buffers are views of the decoder's memory."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._embedding = decoder.embedding.numpy()
        self._layers: list[list[Any]] = [
            [None if w is None else w.numpy() for w in vars(layer).values()] for layer in decoder.layers
        ]
        self._norm = decoder.norm.numpy()

    @np.errstate(all="ignore")  # invalid weights give NaN, which the grammar handles
    def __call__(self, segments: Sequence[Segment]) -> np.ndarray:
        decoder, shape = self._decoder, self._decoder.shape
        all_keys, all_values = decoder.keys.numpy(), decoder.values.numpy()
        tokens = np.concatenate([tokens for _, _, tokens in segments])
        places = np.concatenate([start + np.arange(len(tokens)) for _, start, tokens in segments])
        cos, sin = decoder.cos.numpy()[places, None], decoder.sin.numpy()[places, None]
        heads, rotated, half = shape.heads, shape.heads + shape.kv_heads, shape.head_dim // 2
        scale = np.float32(shape.head_dim**-0.5)
        count = len(tokens)
        rows = ROWS if count > 1 else 1
        # Padded to four: two or three tokens take longer than four.
        filled = -(-count // rows) * rows
        turned = np.empty((count, rotated, shape.head_dim), np.float32)
        attended = np.zeros((filled, heads, shape.head_dim), np.float32)
        x = self._embedding[np.resize(tokens, filled)].reshape(-1, rows, shape.width)
        for i, (norm1, qkv, bias, out, norm2, gate_up, down, qk_norm) in enumerate(self._layers):
            h = (self._normed(x, norm1) @ qkv + bias).reshape(filled, -1, shape.head_dim)[:count]
            qk = h[:, :rotated]
            if qk_norm is not None:
                qk = self._normed(qk, qk_norm)
            turned[..., :half], turned[..., half:] = qk[..., half:], qk[..., :half]
            qk = qk * cos + turned * sin
            queries, done = qk[:, :heads] * scale, 0
            for row, start, new in segments:
                end, part = start + len(new), slice(done, done + len(new))
                done = part.stop
                all_keys[i, row, :, start:end] = qk[part, heads:].swapaxes(0, 1)
                all_values[i, row, :, start:end] = h[part, rotated:].swapaxes(0, 1)
                keys, values = all_keys[i, row, :, :end], all_values[i, row, :, :end]
                attended[part] = self._attend(queries[part], keys, values)
            x += attended.reshape(*x.shape[:2], -1) @ out
            h = self._normed(x, norm2) @ gate_up
            gate, up = h[..., : shape.mlp], h[..., shape.mlp :]
            x += (gate / (1 + np.exp(-gate)) * up) @ down
        return self._normed(x, self._norm).reshape(filled, -1)[:count]

    def _attend(self, queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Attention of a sequence's last (n, heads, head_dim) over all of it, (kv_heads, end, head_dim)."""
        shape, count, end = self._decoder.shape, len(queries), keys.shape[1]
        # Queries of one group of heads are rows of one matrix: (kv_heads, heads of the group * n, head_dim).
        grouped = shape.kv_heads, shape.heads // shape.kv_heads * count, shape.head_dim
        scores = queries.swapaxes(0, 1).reshape(grouped) @ keys.swapaxes(1, 2)
        if count > 1:
            future = np.triu(np.full((count, count), -np.inf, np.float32), 1)
            scores.reshape(shape.heads, count, end)[..., end - count :] += future
        np.exp(scores - scores.max(-1, keepdims=True), out=scores)
        scores /= scores.sum(-1, keepdims=True)
        return (scores @ values).reshape(shape.heads, count, -1).swapaxes(0, 1)

    def _normed(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        squares = np.einsum("...i,...i->...", x, x)[..., None]
        return x * (1 / np.sqrt(squares / x.shape[-1] + self._decoder.shape.eps)) * weight
