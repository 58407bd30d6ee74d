"""Decode passes on the CPU, in numpy.

One token in a model of a few million parameters takes a hundred small operations, and calling them takes most
of the time: a call in numpy takes a fraction of one in torch. Weights and key-value buffers are views of the
decoder's memory, so that prompts run in torch without copies. Several tokens are multiplied four by four:
OpenBLAS has kernels for such small products, and for larger ones it first copies the whole matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from argus_ros.vlm.models.decoder import Decoder

#: The tokens to append to a sequence: row and first position in the buffers, (n,) token ids.
Segment = tuple[int, int, np.ndarray]
#: Number of tokens multiplied together.
ROWS = 4


class HostSteps:
    """Appends tokens to the sequences of a float32 decoder on the CPU."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._embedding = decoder.embedding.numpy()
        self._layers: list[list[Any]] = [
            [None if w is None else w.numpy() for w in vars(layer).values()] for layer in decoder.layers
        ]
        self._norm = decoder.norm.numpy()

    @np.errstate(all="ignore")  # invalid weights give NaN, which the grammar handles
    def __call__(self, segments: Sequence[Segment]) -> np.ndarray:
        """Append tokens to several sequences; returns normalised hidden states (tokens, width) in order."""
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
