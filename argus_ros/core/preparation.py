"""From a camera picture to the square tiles a vision encoder takes, in one pass.

The stock Idefics3/SmolVLM processor scales the picture to its longest edge, then to whole tiles,
then once more for the global tile: three Lanczos passes. Here each tile is scaled once, from the
camera's own pixels (``direct_resize``: area averaging down, cubic up), as uint8; normalisation is
the engine's. The grid is the stock one. Pixels differ from the stock ones by at most 1/255 on average in
SmolVLM's tiles; where fine detail is squeezed into one small tile, which the stock chain softens first,
by about 2/255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from argus_ros.core.checkpoint import Tiling
from argus_ros.core.image import Image, Pixels, Region, decode


@dataclass(frozen=True)
class Prepared:
    """What lies in the tiles: a grid, then the global tile."""

    rows: int  #: of the grid; 0 when there is only the global tile
    columns: int
    region: Region  #: of the source picture that the tiles show, pixels

    @property
    def tiles(self) -> int:
        return self.rows * self.columns + 1


def plan(width: int, height: int, tiling: Tiling) -> tuple[int, int]:
    """Rows and columns that a picture is cut into; 0, 0 when the global tile is all there is."""
    if tiling.longest_edge <= tiling.tile:
        return 0, 0
    # The stock processor's own roundings: first to the longest edge, then to whole tiles.
    if width >= height:
        wide, high = tiling.longest_edge, _even(int(tiling.longest_edge / (width / height)))
        columns = math.ceil(wide / tiling.tile)
        rows = math.ceil(int(columns * tiling.tile / (wide / high)) / tiling.tile)
    else:
        wide, high = _even(int(tiling.longest_edge * (width / height))), tiling.longest_edge
        rows = math.ceil(high / tiling.tile)
        columns = math.ceil(int(rows * tiling.tile * (wide / high)) / tiling.tile)
    return rows, columns


def _even(length: int) -> int:
    return max(length + length % 2, 1)


def prepare(image: Image, region: Region | None, tiling: Tiling, out: np.ndarray) -> Prepared:
    """Decode ``region`` of the picture (all of it for None) and scale it into the first tiles of ``out``.

    ``out`` is (tiles, tile, tile, 3) uint8 with room for the grid and the global tile, which comes
    last; RGB. Raises ImageError.
    """
    region = (region or Region()).within(*image.size())
    rows, columns = plan(region.width, region.height, tiling)
    canvas = max(columns, 1) * tiling.tile, max(rows, 1) * tiling.tile
    pixels = decode(image, region, canvas)
    if pixels.array.shape[0] * pixels.array.shape[1] < canvas[0] * canvas[1]:
        pixels = Pixels(pixels.rgb(), None)
    grid = rows * columns
    if grid:
        pixels = Pixels(scale(pixels, *canvas), None)  # the global tile is a whole factor smaller
        picture = pixels.array.reshape(rows, tiling.tile, columns, tiling.tile, 3)
        out[:grid].reshape(rows, columns, tiling.tile, tiling.tile, 3)[:] = picture.swapaxes(1, 2)
    scale(pixels, tiling.tile, tiling.tile, out[grid])
    return Prepared(rows, columns, region)


def scale(pixels: Pixels, width: int, height: int, out: np.ndarray | None = None) -> np.ndarray:
    """The picture as (height, width, 3) RGB of this size, in ``out`` where that is given."""
    array = pixels.array
    rows, columns = array.shape[:2]
    # OpenCV averages areas fast by whole factors, and only where no axis grows.
    columns, rows = columns // _factor(columns, width), rows // _factor(rows, height)
    array = _resize(array, columns, rows)
    if (columns > width) != (rows > height):
        array = _resize(array, min(columns, width), min(rows, height))
    how = cv2.INTER_AREA if array.shape[1] >= width and array.shape[0] >= height else cv2.INTER_CUBIC
    if pixels.to_rgb is None:
        return cv2.resize(array, (width, height), dst=out, interpolation=how)
    return cv2.cvtColor(cv2.resize(array, (width, height), interpolation=how), pixels.to_rgb, dst=out)


def _factor(length: int, target: int) -> int:
    """Largest whole divisor of ``length`` that leaves ``target``."""
    return next((k for k in range(length // target, 1, -1) if length % k == 0), 1)


def _resize(array: np.ndarray, width: int, height: int) -> np.ndarray:
    if array.shape[1] == width and array.shape[0] == height:
        return array
    return cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA)
