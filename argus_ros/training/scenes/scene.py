"""A scene and its objects, with boxes as the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "val", "heldout")


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene; the box in pixels of the image, clipped to it."""

    label: str
    colour: str
    box: tuple[float, float, float, float]  #: x_min, y_min, x_max, y_max
    weight: float = 1.0  #: in training; less than 1 for a box that a detector found

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Scene:
    image: np.ndarray  #: (height, width, 3) uint8 RGB
    objects: tuple[SceneObject, ...]  #: largest first
    #: Classes of which every object is among ``objects``; None: all classes. Of other classes there may be
    #: objects without a box.
    complete: frozenset[str] | None = None


def clip(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """The part of a box that lies in a picture."""
    x0, y0, x1, y1 = box
    return (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes share, in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
