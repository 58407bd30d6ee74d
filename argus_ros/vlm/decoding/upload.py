"""Uploads pixels from the host as tiles: recipes uint8_transfer, pinned_async and device_resize."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from argus_ros.core.recipes import Recipes
from argus_ros.vlm.decoding.generation import Frame
from argus_ros.vlm.models.vision import Normalisation


class Upload:
    """Converts tiles (tiles, side, side, 3) uint8, or a frame to cut, to the vision encoder's input.

    With ``uint8_transfer`` tiles stay uint8, else they are normalised float32. The source memory can be
    reused once the device has finished the work that follows.
    """

    def __init__(
        self, recipes: Recipes, device: torch.device, normalisation: Normalisation, side: int
    ) -> None:
        self._device, self._normalisation, self._side = device, normalisation, side
        self._folded = recipes.uint8_transfer
        self._stream = torch.cuda.Stream(device) if recipes.pinned_async and device.type == "cuda" else None

    def __call__(self, pixels: np.ndarray | Frame) -> Tensor:
        if isinstance(pixels, Frame):
            tiles = self.cut(self._copy(_tensor(pixels.pixels)), pixels.rows, pixels.columns)
            return tiles if self._folded else self._normalisation.apply(tiles)
        tiles = _tensor(pixels)
        return self._copy(tiles if self._folded else self._normalisation.apply(tiles))

    def _copy(self, host: Tensor) -> Tensor:
        if self._stream is None:
            return host.to(self._device)
        with torch.cuda.stream(self._stream):
            there = host.to(self._device, non_blocking=True)  # blocks where the memory is not pinned
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        there.record_stream(current)
        return there

    def cut(self, frame: Tensor, rows: int, columns: int) -> Tensor:
        """(height, width, 3) uint8 to (tiles, side, side, 3) uint8: the grid, then the whole picture."""
        side = self._side
        picture, grid = frame.permute(2, 0, 1)[None].float(), []
        if rows:
            picture = _scale(picture, rows * side, columns * side)
            cells = picture.view(3, rows, side, columns, side).permute(1, 3, 2, 4, 0)
            grid = [cells.reshape(rows * columns, side, side, 3)]
        whole = _scale(picture, side, side).permute(0, 2, 3, 1)
        return torch.cat([*grid, whole]).round_().to(torch.uint8)


def _scale(picture: Tensor, height: int, width: int) -> Tensor:
    """(1, 3, …, …) float in 0..255, with a cubic filter like PIL's."""
    return F.interpolate(picture, (height, width), mode="bicubic", antialias=True).clamp_(0, 255)


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels))


def up(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to the device, without waiting for the device's work."""
    if device.type == "cuda" and len(tensor):
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def pin(memory: np.ndarray, device: torch.device) -> str:
    """Register memory with the device permanently. Returns the reason of a failure, or ""."""
    with torch.cuda.device(device):
        error = torch.cuda.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)
    return "" if int(error) == 0 else f"the device refuses to pin shared memory: {error}"
