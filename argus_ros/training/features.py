"""Features of a teacher as targets for the vision encoder, wherever augmentation has moved the parts.

A bank holds one map a picture (`argus label --features`). A scene keeps the pieces of pictures that it is
made of; the target of a patch is the map at the place that the centre of the patch shows. The method is that
of FitNets (arXiv 1412.6550).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from argus_ros.core.matching import Box


@dataclass(frozen=True)
class Piece:
    """A part of a picture somewhere in a scene."""

    box: Box  #: in pixels of the scene
    map: np.ndarray  #: (rows, columns, channels) of the whole picture
    shows: Box  #: part of the picture, x0, y0, x1, y1 in [0, 1]; x0 > x1 where left and right are exchanged

    def moved(self, x: float, y: float) -> Piece:
        a, b, c, d = self.box
        return replace(self, box=(a + x, b + y, c + x, d + y))

    def scaled(self, x: float, y: float) -> Piece:
        a, b, c, d = self.box
        return replace(self, box=(a * x, b * y, c * x, d * y))

    def flipped(self, width: float) -> Piece:
        a, b, c, d = self.box
        u0, v0, u1, v1 = self.shows
        return Piece((width - c, b, width - a, d), self.map, (u1, v0, u0, v1))


def cropped(pieces: Sequence[Piece], x0: float, y0: float, x1: float, y1: float) -> tuple[Piece, ...]:
    """What is left of the pieces between two corners, from the first corner on."""
    kept = []
    for piece in pieces:
        a, b, c, d = piece.box
        u0, v0, u1, v1 = piece.shows
        left, top, right, low = max(a, x0), max(b, y0), min(c, x1), min(d, y1)
        if left < right and top < low:
            across, down = (u1 - u0) / (c - a), (v1 - v0) / (d - b)
            shows = (
                u0 + (left - a) * across,
                v0 + (top - b) * down,
                u0 + (right - a) * across,
                v0 + (low - b) * down,
            )
            kept.append(Piece((left - x0, top - y0, right - x0, low - y0), piece.map, shows))
    return tuple(kept)


def sample(
    pieces: Sequence[Piece], width: int, height: int, grid: int, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Targets (patches, channels) float32 of a square grid over a scene; where there is one, (patches,) bool.

    Between the places of a map it is linear; later pieces lie on earlier ones.
    """
    targets = np.zeros((grid * grid, channels), np.float32)
    known = np.zeros(grid * grid, bool)
    centre = (np.arange(grid) + 0.5) / grid
    y, x = (a.ravel() for a in np.meshgrid(centre * height, centre * width, indexing="ij"))
    for piece in pieces:
        a, b, c, d = piece.box
        u0, v0, u1, v1 = piece.shows
        inside = np.flatnonzero((x >= a) & (x < c) & (y >= b) & (y < d))
        if not len(inside):
            continue
        u = u0 + (x[inside] - a) / (c - a) * (u1 - u0)
        v = v0 + (y[inside] - b) / (d - b) * (v1 - v0)
        targets[inside] = _bilinear(piece.map, u, v)
        known[inside] = True
    return targets, known


def _bilinear(values: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values (rows, columns, channels) at places (n,) in [0, 1], as (n, channels)."""
    rows, columns = values.shape[:2]
    x = np.clip(u * columns - 0.5, 0, columns - 1)
    y = np.clip(v * rows - 0.5, 0, rows - 1)
    left, top = x.astype(int), y.astype(int)
    right, low = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    upper = values[top, left] * (1 - fx) + values[top, right] * fx
    lower = values[low, left] * (1 - fx) + values[low, right] * fx
    return upper * (1 - fy) + lower * fy


class FeatureError(ValueError):
    """Files that are no bank of features."""


class Bank:
    """Maps of a teacher by file name, each channel with mean 0 and variance 1; they stay on disk."""

    def __init__(self, file: Path) -> None:
        """Open ``file`` (.npy) and the .json beside it. Raises FeatureError."""
        try:
            self._maps = np.load(file, mmap_mode="r")
            about = json.loads(file.with_suffix(".json").read_text())
            self._index = {name: i for i, name in enumerate(about["files"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FeatureError(f"{file} is no bank of `argus label --features`: {error}") from None
        if self._maps.ndim != 4 or len(self._maps) != len(self._index):
            raise FeatureError(f"{file} has shape {self._maps.shape}, but {len(self._index)} pictures listed")
        some = np.asarray(self._maps[:: max(len(self._maps) // 256, 1)], np.float32)
        self._mean = some.mean((0, 1, 2))
        self._scale = 1 / np.maximum(some.std((0, 1, 2)), 1e-3)

    @property
    def channels(self) -> int:
        return self._maps.shape[-1]

    def of(self, name: str) -> np.ndarray | None:
        """(rows, columns, channels) float32 of a picture, None where it has none."""
        i = self._index.get(name)
        return None if i is None else (self._maps[i].astype(np.float32) - self._mean) * self._scale
