"""How pixels reach a model in transformers' own modules: as uint8 levels that the device normalises, and
through a patch embedding that is one matrix product.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The names of a picture's pixels in the inputs of models.
PIXELS = "pixel_values"
#: Maximum difference of normalised pixels: rounding in float32.
SAME = 1e-5


class Levels:
    """An image processor that stops at uint8 levels; the device rescales and normalises them.

    Raises ValueError for a processor that does not rescale and normalise three channels.
    """

    def __init__(self, processor: Any, device: torch.device) -> None:
        if not (getattr(processor, "do_rescale", False) and getattr(processor, "do_normalize", False)):
            raise ValueError("it does not rescale and normalise")
        mean, std = (
            torch.as_tensor(values, dtype=torch.float32, device=device).expand(3)
            for values in (processor.image_mean, processor.image_std)
        )
        self._processor = processor
        self._scale, self._offset = float(processor.rescale_factor) / std, -mean / std

    def of(self, picture: Any) -> dict[str, Any]:
        """The image processor's output for a PIL picture, with pixels as uint8 levels."""
        return dict(self._processor(picture, do_rescale=False, do_normalize=False, return_tensors="pt"))

    def pixels(self, levels: Tensor) -> Tensor:
        """uint8 levels (..., 3, height, width), or of patches (patches, 3 x size), as normalised float32."""
        scale, offset = (self._over(values, levels) for values in (self._scale, self._offset))
        return levels.to(torch.float32).mul_(scale).add_(offset)

    def check(self, picture: Any, pixels: Any) -> None:
        """Raise ValueError unless levels become the ``pixels`` that the processor makes of a picture."""
        levels = self.of(picture).get(PIXELS)
        if not (isinstance(pixels, Tensor) and isinstance(levels, Tensor) and levels.dtype == torch.uint8):
            raise ValueError("its pixels are no uint8 levels before they are normalised")
        made = self.pixels(levels.to(self._scale.device)).cpu()
        if made.shape != pixels.shape or not torch.allclose(made, pixels.float(), rtol=0, atol=SAME):
            raise ValueError("it does more to pixels than to rescale and normalise them")

    @staticmethod
    def _over(values: Tensor, levels: Tensor) -> Tensor:
        """A value for each channel, in the shape that goes with levels."""
        return values.repeat_interleave(levels.shape[1] // 3) if levels.ndim == 2 else values.view(3, 1, 1)


class PatchProduct(nn.Conv3d):
    """A convolution of whole patches as a matrix product, which takes a fraction of the time."""

    def forward(self, patches: Tensor) -> Tensor:
        """(patches, channels, *kernel) to (patches, width, 1, 1, 1)."""
        if patches.shape[2:] != self.kernel_size:
            return super().forward(patches)
        made = F.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
        return made[..., None, None, None]


def multiply_patches(model: nn.Module) -> bool:
    """Replace a model's convolutions of whole patches by matrix products; returns whether it has any."""
    found = [m for m in model.modules() if type(m) is nn.Conv3d and _of_patches(m)]
    for module in found:
        module.__class__ = PatchProduct
    return bool(found)


def _of_patches(module: nn.Conv3d) -> bool:
    plain = module.groups == 1 and module.padding == (0, 0, 0) and module.dilation == (1, 1, 1)
    return plain and module.stride == module.kernel_size
