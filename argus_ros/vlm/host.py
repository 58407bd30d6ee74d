"""Decode steps on the CPU, in numpy.

One token through a model of a few million parameters is a hundred small operations, whose cost is that of
calling them: a call in numpy takes a fraction of one in torch. The weights and the key-value buffers are the
decoder's own memory, so prompts still run in torch, and nothing is copied.
"""

from __future__ import annotations

import numpy as np

from argus_ros.vlm.decoder import Decoder


class HostSteps:
    """Appends one token at a time to the sequence of a float32 decoder on the CPU."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._embedding = decoder.embedding.numpy()
        self._layers = [[w.numpy() for w in vars(layer).values()] for layer in decoder.layers]
        self._norm = decoder.norm.numpy()
        shape = decoder.shape
        self._heads = shape.heads + shape.kv_heads
        self._rotated = np.empty((self._heads, shape.head_dim), np.float32)

    def __call__(self, token: int) -> np.ndarray:
        """Append a token; the normed hidden state (width,) from which the next is predicted."""
        decoder, shape, heads, rotated = self._decoder, self._decoder.shape, self._heads, self._rotated
        place, end = decoder.length, decoder.length + 1
        all_keys, all_values = decoder.keys.numpy(), decoder.values.numpy()
        cos, sin = decoder.cos[place].numpy(), decoder.sin[place].numpy()
        grouped = shape.kv_heads, shape.heads // shape.kv_heads, shape.head_dim
        half, scale = shape.head_dim // 2, np.float32(shape.head_dim**-0.5)
        x = self._embedding[token].copy()
        for i, (norm1, qkv, bias, out, norm2, gate_up, down) in enumerate(self._layers):
            h = (self._normed(x, norm1) @ qkv + bias).reshape(-1, shape.head_dim)
            qk = h[:heads]
            rotated[:, :half], rotated[:, half:] = qk[:, half:], qk[:, :half]
            qk = qk * cos + rotated * sin
            all_keys[i, :, place], all_values[i, :, place] = qk[shape.heads :], h[heads:]
            keys, values = all_keys[i, :, :end], all_values[i, :, :end]
            scores = (qk[: shape.heads] * scale).reshape(grouped) @ keys.transpose(0, 2, 1)
            np.exp(scores - scores.max(-1, keepdims=True), out=scores)
            scores /= scores.sum(-1, keepdims=True)
            x += (scores @ values).reshape(-1) @ out
            h = self._normed(x, norm2) @ gate_up
            gate, up = h[: shape.mlp], h[shape.mlp :]
            x += (gate / (1 + np.exp(-gate)) * up) @ down
        decoder.length = end
        return self._normed(x, self._norm)

    def _normed(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        shape = self._decoder.shape
        return x * np.float32(1 / np.sqrt(x.dot(x) / shape.width + shape.eps)) * weight
