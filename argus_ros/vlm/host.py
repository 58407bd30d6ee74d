"""Decode passes on the CPU, in numpy.

One token through a model of a few million parameters is a hundred small operations, whose cost is that of
calling them: a call in numpy takes a fraction of one in torch. The weights and the key-value buffers are the
decoder's own memory, so prompts still run in torch, and nothing is copied. Several tokens at once are
products of matrices, whose setting up costs as much as a step.
"""

from __future__ import annotations

import numpy as np

from argus_ros.vlm.decoder import Decoder


class HostSteps:
    """Appends tokens to the sequence of a float32 decoder on the CPU."""

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

    def many(self, tokens: np.ndarray) -> np.ndarray:
        """Append (n,) tokens; the normed hidden states (n, width) from which the next ones are predicted."""
        decoder, shape, count = self._decoder, self._decoder.shape, len(tokens)
        start, end = decoder.length, decoder.length + count
        all_keys, all_values = decoder.keys.numpy(), decoder.values.numpy()
        cos, sin = decoder.cos[start:end].numpy(), decoder.sin[start:end].numpy()
        half, scale = shape.head_dim // 2, np.float32(shape.head_dim**-0.5)
        heads, rotated = shape.heads, shape.heads + shape.kv_heads
        # Queries of one group of heads are rows of one matrix: (kv_heads, heads of the group * n, head_dim).
        grouped = shape.kv_heads, shape.heads // shape.kv_heads * count, shape.head_dim
        future = np.triu(np.full((count, count), -np.inf, np.float32), 1)
        turned = np.empty((count, rotated, shape.head_dim), np.float32)
        x = self._embedding[tokens]
        for i, (norm1, qkv, bias, out, norm2, gate_up, down) in enumerate(self._layers):
            h = (self._normed_rows(x, norm1) @ qkv + bias).reshape(count, -1, shape.head_dim)
            qk = h[:, :rotated]
            turned[..., :half], turned[..., half:] = qk[..., half:], qk[..., :half]
            qk = qk * cos + turned * sin
            all_keys[i, :, start:end] = qk[:, heads:].swapaxes(0, 1)
            all_values[i, :, start:end] = h[:, rotated:].swapaxes(0, 1)
            keys, values = all_keys[i, :, :end], all_values[i, :, :end]
            queries = (qk[:, :heads] * scale).swapaxes(0, 1).reshape(grouped)
            scores = queries @ keys.transpose(0, 2, 1)
            if count > 1:
                scores.reshape(heads, count, end)[..., start:] += future
            np.exp(scores - scores.max(-1, keepdims=True), out=scores)
            scores /= scores.sum(-1, keepdims=True)
            h = (scores @ values).reshape(heads, count, -1).swapaxes(0, 1).reshape(count, -1)
            x += h @ out
            h = self._normed_rows(x, norm2) @ gate_up
            gate, up = h[:, : shape.mlp], h[:, shape.mlp :]
            x += (gate / (1 + np.exp(-gate)) * up) @ down
        decoder.length = end
        return self._normed_rows(x, self._norm)

    def _normed(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        shape = self._decoder.shape
        return x * np.float32(1 / np.sqrt(x.dot(x) / shape.width + shape.eps)) * weight

    def _normed_rows(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        squares = np.einsum("ij,ij->i", x, x)[:, None]
        return x * (1 / np.sqrt(squares / self._decoder.shape.width + self._decoder.shape.eps)) * weight
