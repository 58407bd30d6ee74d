"""A lower bound of a model's time on a device.

For each stage it is the larger of two times: its operations over the measured matrix rate, and its bytes
over the measured bandwidth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from argus_ros.vlm.models.architecture import TextShape, VisionShape

#: Operations of a multiply-add.
MAC = 2
#: Number of measurements of each rate; the best one counts.
TRIES = 8
#: Maximum bytes for the measurement of the bandwidth.
MOST_BYTES = 1 << 31


@dataclass(frozen=True)
class Rates:
    """The measured rates of the device."""

    operations: float  #: per second, in products of large matrices
    bandwidth: float  #: bytes per second, in a product of a matrix with a vector


@dataclass(frozen=True)
class Floor:
    """Lower bounds of the stages of a frame, in seconds."""

    vision: float
    prefill: float
    step: float  #: one token after the first
    tokens: int

    @property
    def ttft(self) -> float:
        return self.vision + self.prefill

    @property
    def total(self) -> float:
        return self.ttft + (self.tokens - 1) * self.step


def compute(
    vision: VisionShape,
    text: TextShape,
    tiles: int,
    prompt: int,
    tokens: int,
    head: int,
    bytes_per_number: int,
    rates: Rates,
) -> Floor:
    """The floor of a frame: ``tiles`` tiles, ``prompt`` tokens, then ``tokens`` new ones of ``head``."""
    seen = tiles * vision_operations(vision, text)
    projections, attention = decoder_operations(text)
    output = MAC * text.width * head
    read = prompt * projections + attention * prompt * (prompt + 1) // 2 + output
    weights = (projections + output) // MAC * bytes_per_number
    context = prompt + tokens / 2
    cache = 2 * text.layers * text.kv_heads * text.head_dim * context * bytes_per_number
    step = projections + attention * context + output
    return Floor(
        vision=seen / rates.operations,
        prefill=max(read / rates.operations, weights / rates.bandwidth),
        step=max(step / rates.operations, (weights + cache) / rates.bandwidth),
        tokens=tokens,
    )


def vision_operations(vision: VisionShape, text: TextShape) -> int:
    """Operations of one tile, from pixels to visual tokens."""
    patches, width = vision.side**2, vision.width
    layer = patches * (4 * width**2 + 2 * width * vision.mlp) + 2 * patches**2 * width
    embedding = patches * 3 * vision.patch**2 * width
    projection = vision.tokens * width * vision.unshuffle**2 * text.width
    return MAC * (vision.layers * layer + embedding + projection)


def decoder_operations(text: TextShape) -> tuple[int, int]:
    """Operations of a token in all layers' projections, and of its attention to one earlier token."""
    heads = text.heads * text.head_dim
    projections = text.width * (2 * heads + 2 * text.kv_heads * text.head_dim) + 3 * text.width * text.mlp
    return MAC * text.layers * projections, MAC * text.layers * 2 * heads


def measure(device: torch.device, dtype: torch.dtype, step_bytes: int) -> Rates:
    """Rates of the device; ``step_bytes`` is the number of bytes per step, as small models fit in caches."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    operations = MAC * side**3 / _best(lambda: a @ b, device)
    size = min(max(step_bytes, 1 << 20), MOST_BYTES) // dtype.itemsize
    matrix = torch.zeros(max(size // 1024, 1), 1024, device=device, dtype=dtype)
    vector = torch.zeros(1024, device=device, dtype=dtype)
    bandwidth = matrix.numel() * dtype.itemsize / _best(lambda: torch.mv(matrix, vector), device)
    return Rates(operations, bandwidth)


def _best(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(TRIES):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3)
        else:
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    return min(seconds)
