"""Converts a camera image to the square tiles of a vision encoder, in one pass.

The grid of tiles is the one of the stock processors, SmolVLM's or InternVL's. SmolVLM's processor scales the
image to its longest edge, then to whole tiles, then once more for the global tile: three Lanczos passes. Here
each tile is scaled once, from the camera's own pixels (``direct_resize``: area averaging down, cubic up), as
uint8. The engine normalises them. Pixels differ from the stock ones by at most 1/255 on average, or by about
2/255 where fine detail is reduced to one small tile, which SmolVLM's chain of passes blurs.

With recipe ``device_resize`` the host only decodes; the engine cuts and scales on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from argus_ros.core.checkpoint import Tiling
from argus_ros.core.image import Image, Pixels, Region, decode
from argus_ros.core.protocol import slot_shape

#: The device scales a frame whose side is at most this many times the side of all tiles together.
MOST_SCALE = 32


@dataclass(frozen=True)
class Prepared:
    """A prepared image: a grid of tiles followed by the global tile, or the whole frame."""

    rows: int  #: of the grid; 0 when there is only the global tile
    columns: int
    region: Region  #: of the source image that was prepared, pixels
    frame: tuple[int, int] = (0, 0)  #: width and height of the frame, where the device cuts it

    @property
    def tiles(self) -> int:
        return self.rows * self.columns + 1

    def pixels(self, slot: np.ndarray, tile: int) -> np.ndarray:
        """View of the pixels in a slot, see ``FrameRequest.shape``."""
        shape = slot_shape(self.rows, self.columns, self.frame, tile)
        return slot[: math.prod(shape)].reshape(shape)


def plan(width: int, height: int, tiling: Tiling) -> tuple[int, int]:
    """Rows and columns of the tile grid for an image; (0, 0) for the global tile alone."""
    if tiling.whole:
        return 0, 0
    if tiling.grid[1]:
        rows, columns = aspect_grid(width, height, tiling)
        return (rows, columns) if rows * columns > 1 else (0, 0)
    if tiling.longest_edge <= tiling.tile:
        return 0, 0
    # The stock processor's own rounding: first to the longest edge, then to whole tiles.
    if width >= height:
        wide, high = tiling.longest_edge, _even(int(tiling.longest_edge / (width / height)))
        columns = math.ceil(wide / tiling.tile)
        rows = math.ceil(int(columns * tiling.tile / (wide / high)) / tiling.tile)
    else:
        wide, high = _even(int(tiling.longest_edge * (width / height))), tiling.longest_edge
        rows = math.ceil(high / tiling.tile)
        columns = math.ceil(int(rows * tiling.tile * (wide / high)) / tiling.tile)
    return rows, columns


def aspect_grid(width: int, height: int, tiling: Tiling) -> tuple[int, int]:
    """InternVL's rows and columns, with the aspect ratio nearest to the image's.

    Among equally near ones, a larger grid is chosen if the image has more than half its pixels.
    """
    least, most = tiling.grid
    best, nearest = (1, 1), math.inf
    shapes = [(r, c) for c in range(1, most + 1) for r in range(1, most + 1) if least <= r * c <= most]
    for rows, columns in sorted(shapes, key=math.prod):
        distance = abs(width / height - columns / rows)
        large = width * height > tiling.tile**2 * rows * columns / 2
        if distance < nearest or (distance == nearest and large):
            best, nearest = (rows, columns), distance
    return best


def _even(length: int) -> int:
    return max(length + length % 2, 1)


def fill(slot: np.ndarray, image: Image, region: Region | None, tiling: Tiling, whole: bool) -> Prepared:
    """Write ``region`` of the image (None: all of it) into a slot, (bytes,) uint8.

    It is written as tiles or, with ``whole`` and where it fits, as the frame, (height, width, 3) RGB, from
    which the device cuts the tiles. Raises ImageError.
    """
    if tiling.whole:
        return _whole(slot, image, region)
    if whole:
        region = (region or Region()).within(*image.size())
        rows, columns = plan(region.width, region.height, tiling)
        canvas = max(columns, 1) * tiling.tile, max(rows, 1) * tiling.tile
        sides = zip((region.width, region.height), canvas, strict=True)
        if 3 * region.width * region.height <= slot.size and all(a <= MOST_SCALE * b for a, b in sides):
            pixels = decode(image, region, canvas)
            height, width = pixels.array.shape[:2]
            prepared = Prepared(rows, columns, region, (width, height))
            out = prepared.pixels(slot, tiling.tile)
            if pixels.to_rgb is None:
                np.copyto(out, pixels.array)
            else:
                cv2.cvtColor(pixels.array, pixels.to_rgb, dst=out)
            return prepared
    room = slot.size // (3 * tiling.tile**2)
    shape = room, tiling.tile, tiling.tile, 3
    return prepare(image, region, tiling, slot[: math.prod(shape)].reshape(shape))


def _whole(slot: np.ndarray, image: Image, region: Region | None) -> Prepared:
    """Write the image as (height, width, 3) RGB into a slot, scaled down where it does not fit."""
    region = (region or Region()).within(*image.size())
    shrink = min(1.0, math.sqrt(slot.size / (3 * region.width * region.height)))
    width, height = (max(int(side * shrink), 1) for side in (region.width, region.height))
    width = min(width, slot.size // 3)  # an image of one pixel's width or height keeps it
    height = min(height, slot.size // (3 * width))
    pixels = decode(image, region, (width, height))
    prepared = Prepared(0, 0, region, (width, height))
    scale(pixels, width, height, prepared.pixels(slot, 1))
    return prepared


def prepare(image: Image, region: Region | None, tiling: Tiling, out: np.ndarray) -> Prepared:
    """Decode ``region`` of the image (None: all of it) and scale it into the first tiles of ``out``.

    ``out`` is (tiles, tile, tile, 3) uint8 RGB with room for the grid and the global tile, which comes last.
    Raises ImageError.
    """
    region = (region or Region()).within(*image.size())
    rows, columns = plan(region.width, region.height, tiling)
    canvas = max(columns, 1) * tiling.tile, max(rows, 1) * tiling.tile
    pixels = decode(image, region, canvas)
    if pixels.array.shape[0] * pixels.array.shape[1] < canvas[0] * canvas[1]:
        pixels = Pixels(pixels.rgb(), None)
    grid = rows * columns
    if grid:
        pixels = Pixels(scale(pixels, *canvas), None)  # the global tile is smaller by a whole factor
        picture = pixels.array.reshape(rows, tiling.tile, columns, tiling.tile, 3)
        out[:grid].reshape(rows, columns, tiling.tile, tiling.tile, 3)[:] = picture.swapaxes(1, 2)
    scale(pixels, tiling.tile, tiling.tile, out[grid])
    return Prepared(rows, columns, region)


def scale(pixels: Pixels, width: int, height: int, out: np.ndarray | None = None) -> np.ndarray:
    """The image as (height, width, 3) RGB of this size, in ``out`` where given."""
    array = pixels.array
    rows, columns = array.shape[:2]
    # OpenCV averages areas fast only for whole factors, and where no axis grows.
    columns, rows = columns // _factor(columns, width), rows // _factor(rows, height)
    array = _resize(array, columns, rows)
    if (columns > width) != (rows > height):
        array = _resize(array, min(columns, width), min(rows, height))
    how = cv2.INTER_AREA if array.shape[1] >= width and array.shape[0] >= height else cv2.INTER_CUBIC
    if pixels.to_rgb is None:
        return cv2.resize(array, (width, height), dst=out, interpolation=how)
    return cv2.cvtColor(cv2.resize(array, (width, height), interpolation=how), pixels.to_rgb, dst=out)


def _factor(length: int, target: int) -> int:
    """The largest divisor of ``length`` that leaves at least ``target``."""
    return next((k for k in range(length // target, 1, -1) if length % k == 0), 1)


def _resize(array: np.ndarray, width: int, height: int) -> np.ndarray:
    if array.shape[1] == width and array.shape[0] == height:
        return array
    return cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA)
