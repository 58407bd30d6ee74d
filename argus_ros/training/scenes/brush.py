"""Draws shapes with OpenCV in the unit square of an object's box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from argus_ros.training.scenes.palette import RGB, Palette

Point = tuple[float, float]
Edge = Callable[[float], float]


@dataclass(frozen=True)
class Bend:
    """Changes a drawing's proportions inside its unit square; the square's sides stay where they are."""

    middle: float = 1.0  #: over 1 widens the parts near the vertical axis, under 1 narrows them
    down: float = 1.0  #: over 1 raises the parts between top and bottom, under 1 lowers them
    lean: float = 0.0  #: shift of the top to the right, as a share of the width

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) points of the drawing to (n, 2) points of the square."""
        x, y = points.T
        t = 2 * x - 1
        x = 0.5 + 0.5 * np.sign(t) * np.abs(t) ** (1 / self.middle)
        x = x + self.lean * (1 - 2 * y) * 4 * x * (1 - x)
        return np.stack([x, np.clip(y, 0, 1) ** self.down], 1)


STRAIGHT = Bend()


class Brush(Palette):
    """Draws in the unit square of a box: (0, 0) is its top left corner, (1, 1) its bottom right."""

    def __init__(
        self,
        canvas: np.ndarray,
        box: Sequence[float],
        colour: RGB,
        rng: np.random.Generator,
        bend: Bend = STRAIGHT,
    ) -> None:
        super().__init__(colour, rng)
        self.canvas = canvas
        self._bend = bend
        # OpenCV puts pixel centres at whole numbers, boxes put pixel edges there: hence the half.
        self._origin = np.array([box[0] - 0.5, box[1] - 0.5])
        self._scale = np.array([box[2] - box[0], box[3] - box[1]])

    def poly(self, points: Sequence[Point], colour: RGB | None = None) -> None:
        corners = (self._bend(np.asarray(points, float)) * self._scale + self._origin) * 16
        cv2.fillPoly(self.canvas, [corners.round().astype(np.int32)], colour or self.main, cv2.LINE_AA, 4)

    def rect(self, x0: float, y0: float, x1: float, y1: float, colour: RGB | None = None) -> None:
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def oval(self, x0: float, y0: float, x1: float, y1: float, colour: RGB | None = None) -> None:
        angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        x = (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(angle)
        y = (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(angle)
        self.poly(list(zip(x, y, strict=True)), colour)

    def line(self, a: Point, b: Point, width: float, colour: RGB | None = None) -> None:
        """A bar whose thickness is a fraction of the box's shorter side."""
        p, q = (np.asarray(v, float) * self._scale for v in (a, b))
        along = (q - p) / max(float(np.hypot(*(q - p))), 1e-6)
        side = np.array([-along[1], along[0]]) * width * self._scale.min() / 2
        corners = np.array([p + side, q + side, q - side, p - side]) / self._scale
        self.poly([(float(x), float(y)) for x, y in corners], colour)

    def bands(self, y0: float, y1: float, most: int, left: Edge, right: Edge) -> None:
        """Up to ``most`` bands across, between the edges, which give x for a y."""
        for _ in range(int(self.rng.integers(0, most + 1))):
            top = self.pick(y0, y1)
            bottom = min(top + self.pick(0.03, 0.25) * (y1 - y0), y1)
            corners = [(left(top), top), (right(top), top), (right(bottom), bottom), (left(bottom), bottom)]
            self.poly(corners, self.other())
