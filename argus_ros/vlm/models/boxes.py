"""Predicts a box's four coordinates at once, from its first token (recipe ``box_draft``).

The head is a separate file of the checkpoint, and optional. Its prediction is a draft, which the model
verifies in one pass, so that answers do not change.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from argus_ros.core.checkpoint import CheckpointError

FILE = "whole_boxes.safetensors"


class BoxHead:
    """A linear head: the hidden state (width,) that produced a box's first coordinate, to all four."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight.t().contiguous(), bias
        self._host = (self._weight.numpy(), bias.numpy()) if weight.device.type == "cpu" else None

    @staticmethod
    def read(folder: Path, bins: int, width: int, device: torch.device) -> BoxHead | None:
        """The head of a checkpoint; None where it has none. Raises CheckpointError for an invalid one."""
        file = folder / FILE
        if not file.is_file():
            return None
        try:
            found = load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{file} cannot be read: {error}; remove it to run without box_draft"
            ) from None
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        if shapes != {"weight": (4 * bins, width), "bias": (4 * bins,)}:
            raise CheckpointError(
                f"{file} holds {shapes}; the model has {bins} bins and a width of {width}; "
                "remove it to run without box_draft, or train it with argus train --only-whole-boxes"
            )
        return BoxHead(*(found[name].float().to(device) for name in ("weight", "bias")))

    def __call__(self, hidden: Tensor | np.ndarray) -> list[int]:
        """Bins of x_min, y_min, x_max and y_max."""
        if isinstance(hidden, np.ndarray) and self._host:
            weight, bias = self._host
            return (hidden @ weight + bias).reshape(4, -1).argmax(1).tolist()
        state = torch.as_tensor(hidden).to(self._weight)
        return (state @ self._weight + self._bias).view(4, -1).argmax(1).tolist()


def write(folder: Path, weight: Tensor, bias: Tensor) -> None:
    """Write a head into a checkpoint, in half precision."""
    tensors = {"weight": weight, "bias": bias}
    save_file({name: t.detach().cpu().half().contiguous() for name, t in tensors.items()}, folder / FILE)
    shutil.copymode(folder / "config.json", folder / FILE)  # else only its owner may read it


def exists(folder: Path) -> bool:
    return (folder / FILE).is_file()
