"""Decoders with random weights, for tests of the ways to run them."""

from __future__ import annotations

import torch

from argus_ros.vlm.models.architecture import TextShape
from argus_ros.vlm.models.decoder import Decoder
from argus_ros.vlm.models.weights import Weights

CPU = torch.device("cpu")


class Drawn(Weights):
    """Weights that are drawn as they are asked for."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._draw = torch.Generator().manual_seed(2)

    def __contains__(self, name: str) -> bool:
        return name == "model.text_model.norm.weight"

    def take(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        scale = shape[-1] ** -0.5 if len(shape) > 1 else 1.0
        return (torch.randn(shape, generator=self._draw) * scale).to(self._device, dtype or self._dtype)


def drawn(
    shape: TextShape,
    rows: int,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    capacity: int = 512,
) -> Decoder:
    """A decoder of this shape with random weights, and room for ``rows`` sequences."""
    made = Decoder(Drawn(device, dtype), shape)
    made.reserve(rows, capacity)
    return made
