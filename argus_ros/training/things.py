"""Ten things a robot meets, each drawn in several ways with OpenCV.

A drawing fills its box exactly: every variant touches all four sides, so that the box is the
truth. The last variant of each class is held out: training never sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

RGB = tuple[int, int, int]
Point = tuple[float, float]

#: Name and typical RGB of the colours that a description may name.
COLOURS: dict[str, RGB] = {
    "red": (205, 40, 40),
    "orange": (240, 130, 25),
    "yellow": (238, 215, 45),
    "green": (45, 150, 60),
    "blue": (45, 85, 205),
    "purple": (140, 55, 170),
    "white": (236, 236, 236),
    "black": (34, 34, 36),
}


@dataclass(frozen=True)
class Bend:
    """Changes a drawing's proportions inside its unit square; the square's sides stay where they are."""

    middle: float = 1.0  #: over 1 widens what lies about the vertical axis, under 1 narrows it
    down: float = 1.0  #: over 1 raises what lies between top and bottom, under 1 lowers it
    lean: float = 0.0  #: shift of the top to the right, as a share of the width

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) points of the drawing to (n, 2) points of the square."""
        x, y = points.T
        t = 2 * x - 1
        x = 0.5 + 0.5 * np.sign(t) * np.abs(t) ** (1 / self.middle)
        x = x + self.lean * (1 - 2 * y) * 4 * x * (1 - x)
        return np.stack([x, np.clip(y, 0, 1) ** self.down], 1)


STRAIGHT = Bend()


class Brush:
    """Draws in the unit square of a box: (0, 0) is its top left corner, (1, 1) its bottom right."""

    def __init__(
        self,
        canvas: np.ndarray,
        box: Sequence[float],
        colour: RGB,
        rng: np.random.Generator,
        bend: Bend = STRAIGHT,
    ) -> None:
        self.canvas = canvas
        self.rng = rng
        self.main = colour
        self._bend = bend
        # OpenCV puts pixel centres at whole numbers, boxes put pixel edges there: hence the half.
        self._origin = np.array([box[0] - 0.5, box[1] - 0.5])
        self._scale = np.array([box[2] - box[0], box[3] - box[1]])

    def shade(self, factor: float, colour: RGB | None = None) -> RGB:
        """A darker (< 1) or lighter (> 1) version of a colour, the main one by default."""
        rgb = np.asarray(colour or self.main, float)
        rgb = rgb * factor if factor <= 1 else rgb + (255 - rgb) * (factor - 1)
        return (int(rgb[0]), int(rgb[1]), int(rgb[2]))

    def contrast(self) -> RGB:
        """Something well set off from the main colour, for stripes and marks."""
        return (240, 240, 236) if sum(self.main) < 420 else (45, 45, 50)

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

    def pick(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


def person(b: Brush, variant: int) -> None:
    skin = ((236, 188, 150), (198, 140, 100), (120, 78, 52))[int(b.rng.integers(3))]
    trousers = ((50, 55, 80), (70, 70, 70), (95, 75, 55), (40, 70, 60))[int(b.rng.integers(4))]
    hair = ((40, 28, 20), (110, 75, 40), (190, 160, 90))[int(b.rng.integers(3))]
    if variant == 0:  # standing, arms down
        b.rect(0.28, 0.5, 0.47, 0.97, trousers)
        b.rect(0.53, 0.5, 0.72, 0.97, trousers)
        b.rect(0.22, 0.95, 0.47, 1, (30, 30, 30))
        b.rect(0.53, 0.95, 0.78, 1, (30, 30, 30))
        b.rect(0, 0.2, 0.2, 0.55, b.shade(0.8))
        b.rect(0.8, 0.2, 1, 0.55, b.shade(0.8))
        b.rect(0.15, 0.17, 0.85, 0.54)
        b.oval(0.3, 0, 0.7, 0.17, skin)
        b.poly([(0.3, 0.07), (0.36, 0), (0.64, 0), (0.7, 0.07)], hair)
    elif variant == 1:  # walking
        b.line((0.48, 0.5), (0.12, 0.97), 0.22, trousers)
        b.line((0.52, 0.5), (0.86, 0.97), 0.22, trousers)
        b.rect(0, 0.95, 0.25, 1, (30, 30, 30))
        b.rect(0.75, 0.95, 1, 1, (30, 30, 30))
        b.line((0.4, 0.22), (0.1, 0.48), 0.16, b.shade(0.8))
        b.line((0.6, 0.22), (0.9, 0.46), 0.16, b.shade(0.8))
        b.poly([(0.27, 0.18), (0.73, 0.18), (0.68, 0.55), (0.32, 0.55)])
        b.oval(0.32, 0, 0.68, 0.17, skin)
    elif variant == 2:  # long coat
        b.rect(0.3, 0.75, 0.46, 1, trousers)
        b.rect(0.54, 0.75, 0.7, 1, trousers)
        b.poly([(0.25, 0.17), (0.75, 0.17), (1, 0.8), (0, 0.8)])
        b.line((0.5, 0.18), (0.5, 0.79), 0.05, b.shade(0.6))
        b.oval(0.3, 0, 0.7, 0.18, skin)
        b.oval(0.3, 0, 0.7, 0.09, hair)
    elif variant == 3:  # helmet and vest, arms out
        b.rect(0.3, 0.52, 0.48, 1, trousers)
        b.rect(0.52, 0.52, 0.7, 1, trousers)
        b.rect(0, 0.2, 1, 0.29, b.shade(0.85))
        b.rect(0.25, 0.18, 0.75, 0.55)
        b.rect(0.25, 0.4, 0.75, 0.44, b.contrast())
        b.oval(0.33, 0.02, 0.67, 0.18, skin)
        b.poly([(0.28, 0.07), (0.38, 0), (0.62, 0), (0.72, 0.07)], (240, 200, 40))
    else:  # seen from the side
        b.rect(0.3, 0.52, 0.62, 0.96, trousers)
        b.rect(0.3, 0.94, 1, 1, (30, 30, 30))
        b.oval(0.12, 0.15, 0.88, 0.57)
        b.line((0.5, 0.25), (0.9, 0.5), 0.25, b.shade(0.75))
        b.rect(0, 0.3, 0.2, 0.42, b.shade(0.6))
        b.oval(0.25, 0, 0.78, 0.17, skin)
        b.oval(0.2, 0, 0.6, 0.12, hair)


def cone(b: Brush, variant: int) -> None:
    base = b.pick(0.86, 0.92)
    if variant == 0:
        b.rect(0, base, 1, 1, b.shade(0.75))
        b.poly([(0.44, 0), (0.56, 0), (0.85, base), (0.15, base)])
        b.poly([(0.33, 0.35), (0.67, 0.35), (0.74, 0.56), (0.26, 0.56)], b.contrast())
    elif variant == 1:
        b.rect(0, base, 1, 1, (50, 50, 52))
        b.poly([(0.42, 0), (0.58, 0), (0.84, base), (0.16, base)])
        b.poly([(0.36, 0.25), (0.64, 0.25), (0.69, 0.4), (0.31, 0.4)], b.contrast())
        b.poly([(0.27, 0.55), (0.73, 0.55), (0.78, 0.7), (0.22, 0.7)], b.contrast())
    elif variant == 2:
        b.poly([(0.5, 0), (1, 1), (0, 1)])
        b.poly([(0.5, 0), (1, 1), (0.62, 1)], b.shade(0.75))
    elif variant == 3:
        b.poly(
            [(0, 0.94), (0.2, base - 0.04), (0.8, base - 0.04), (1, 0.94), (0.9, 1), (0.1, 1)], b.shade(0.7)
        )
        b.poly([(0.4, 0), (0.6, 0), (0.8, base), (0.2, base)])
        b.line((0.44, 0.05), (0.3, base), 0.05, b.shade(1.5))
    else:
        b.oval(0, 0.8, 1, 1, b.shade(0.8))
        b.poly([(0.43, 0), (0.57, 0), (0.88, 0.9), (0.12, 0.9)])
        b.poly([(0.3, 0.42), (0.7, 0.42), (0.79, 0.66), (0.21, 0.66)], b.shade(0.55))


def ball(b: Brush, variant: int) -> None:
    b.oval(0, 0, 1, 1)
    if variant == 0:
        b.oval(0.2, 0.14, 0.48, 0.4, b.shade(1.5))
    elif variant == 1:
        b.poly([(0.03, 0.38), (0.97, 0.38), (0.97, 0.62), (0.03, 0.62)], b.contrast())
    elif variant == 2:
        b.poly([(0.5, 0.28), (0.72, 0.44), (0.64, 0.7), (0.36, 0.7), (0.28, 0.44)], b.contrast())
        for x, y in ((0.5, 0.02), (0.97, 0.4), (0.78, 0.9), (0.22, 0.9), (0.03, 0.4)):
            b.line((0.5 + (x - 0.5) * 0.5, 0.5 + (y - 0.5) * 0.5), (x, y), 0.04, b.contrast())
    elif variant == 3:
        b.oval(0.1, 0.08, 0.86, 0.84, b.shade(1.25))
        b.oval(0.22, 0.16, 0.66, 0.6, b.shade(1.5))
    else:
        b.line((0.5, 0), (0.5, 1), 0.05, b.shade(0.5))
        b.line((0, 0.5), (1, 0.5), 0.05, b.shade(0.5))
        b.oval(0.62, 0.62, 0.8, 0.8, b.shade(0.7))


def box(b: Brush, variant: int) -> None:
    if variant == 0:  # front, with tape
        b.rect(0, 0, 1, 1)
        b.rect(0.42, 0, 0.58, 1, b.shade(0.7))
    elif variant == 1:  # seen from the right above
        d = b.pick(0.18, 0.3)
        b.poly([(0, d), (d, 0), (1, 0), (1 - d, d)], b.shade(1.35))
        b.poly([(1 - d, d), (1, 0), (1, 1 - d), (1 - d, 1)], b.shade(0.65))
        b.rect(0, d, 1 - d, 1)
    elif variant == 2:  # crate of slats
        b.rect(0, 0, 1, 1, b.shade(0.6))
        for i in range(4):
            b.rect(0.03, 0.03 + i * 0.245, 0.97, 0.22 + i * 0.245)
        b.rect(0, 0, 0.1, 1, b.shade(0.85))
        b.rect(0.9, 0, 1, 1, b.shade(0.85))
    elif variant == 3:  # corner towards the camera
        b.poly([(0, 0.2), (0.5, 0.38), (0.5, 1), (0, 0.8)], b.shade(0.8))
        b.poly([(0.5, 0.38), (1, 0.2), (1, 0.8), (0.5, 1)], b.shade(0.6))
        b.poly([(0, 0.2), (0.5, 0), (1, 0.2), (0.5, 0.38)], b.shade(1.2))
    else:  # seen from the left above, with a label
        d = b.pick(0.18, 0.3)
        b.poly([(0, 0), (1 - d, 0), (1, d), (d, d)], b.shade(1.35))
        b.poly([(0, 0), (d, d), (d, 1), (0, 1 - d)], b.shade(0.65))
        b.rect(d, d, 1, 1)
        b.rect(0.55, 0.5, 0.85, 0.75, b.contrast())


def barrel(b: Brush, variant: int) -> None:
    b.oval(0, 0.78, 1, 1, b.shade(0.8))
    b.rect(0, 0.11, 1, 0.89)
    b.rect(0.75, 0.11, 1, 0.89, b.shade(0.75))
    b.oval(0, 0, 1, 0.22, b.shade(1.3))
    if variant == 0:
        b.rect(0, 0.36, 1, 0.41, b.shade(0.55))
        b.rect(0, 0.64, 1, 0.69, b.shade(0.55))
    elif variant == 1:
        b.rect(0, 0.35, 1, 0.55, b.contrast())
    elif variant == 2:
        for y in (0.28, 0.44, 0.6, 0.76):
            b.line((0, y), (1, y), 0.04, b.shade(0.6))
        b.oval(0.6, 0.07, 0.78, 0.15, (40, 40, 40))
    elif variant == 3:
        b.rect(0.05, 0.25, 0.15, 0.85, b.shade(1.4))
        b.oval(0.12, 0.04, 0.88, 0.18, b.shade(0.5))
    else:
        b.rect(0, 0.25, 1, 0.33, b.contrast())
        b.rect(0, 0.7, 1, 0.78, b.contrast())


def chair(b: Brush, variant: int) -> None:
    leg = b.shade(0.6) if b.rng.random() < 0.5 else (90, 70, 50)
    if variant == 0:  # seen from the side
        b.rect(0, 0, 0.16, 1, leg)
        b.rect(0.84, 0.55, 1, 1, leg)
        b.rect(0, 0.48, 1, 0.6)
        b.rect(0, 0, 0.16, 0.5)
    elif variant == 1:  # from the front, slatted back
        for x in (0, 0.86):
            b.rect(x, 0, x + 0.14, 1, leg)
        for y in (0.02, 0.18, 0.34):
            b.rect(0, y, 1, y + 0.1)
        b.poly([(0.04, 0.5), (0.96, 0.5), (1, 0.66), (0, 0.66)])
    elif variant == 2:  # office chair
        b.rect(0.44, 0.6, 0.56, 0.9, (60, 60, 62))
        b.line((0.5, 0.86), (0.04, 0.97), 0.08, (60, 60, 62))
        b.line((0.5, 0.86), (0.96, 0.97), 0.08, (60, 60, 62))
        b.oval(0, 0.92, 0.14, 1, (40, 40, 40))
        b.oval(0.86, 0.92, 1, 1, (40, 40, 40))
        b.poly([(0.18, 0), (0.82, 0), (0.76, 0.48), (0.24, 0.48)])
        b.oval(0.06, 0.5, 0.94, 0.66)
    elif variant == 3:  # armchair
        b.rect(0.1, 0, 0.9, 0.6, b.shade(0.85))
        b.rect(0, 0.35, 0.22, 0.92)
        b.rect(0.78, 0.35, 1, 0.92)
        b.rect(0.2, 0.55, 0.8, 0.92, b.shade(1.15))
        b.rect(0.06, 0.92, 0.16, 1, leg)
        b.rect(0.84, 0.92, 0.94, 1, leg)
    else:  # three quarters, solid back
        b.line((0.07, 0.6), (0.07, 1), 0.12, leg)
        b.line((0.93, 0.6), (0.93, 0.95), 0.12, leg)
        b.line((0.5, 0.62), (0.5, 1), 0.1, leg)
        b.rect(0, 0, 0.6, 0.52)
        b.poly([(0, 0.5), (0.6, 0.46), (1, 0.58), (0.5, 0.68), (0, 0.66)], b.shade(0.85))


def door(b: Brush, variant: int) -> None:
    frame = b.shade(0.6)
    b.rect(0, 0, 1, 1, frame)
    b.rect(0.07, 0.04, 0.93, 1)
    knob: RGB = (210, 190, 110) if sum(b.main) < 600 else (60, 60, 60)
    if variant == 0:
        for x, y in ((0.16, 0.1), (0.54, 0.1), (0.16, 0.56), (0.54, 0.56)):
            b.rect(x, y, x + 0.3, y + 0.36, b.shade(0.8))
        b.oval(0.8, 0.5, 0.9, 0.55, knob)
    elif variant == 1:
        b.rect(0.22, 0.12, 0.78, 0.42, (170, 205, 220))
        b.rect(0.78, 0.54, 0.92, 0.57, knob)
    elif variant == 2:
        for y in (0.2, 0.4, 0.6, 0.8):
            b.rect(0.07, y, 0.93, y + 0.02, b.shade(0.75))
        b.oval(0.1, 0.5, 0.2, 0.55, knob)
    elif variant == 3:
        b.rect(0.07, 0.04, 0.45, 1, (22, 22, 26))
        b.poly([(0.45, 0.04), (0.93, 0.04), (0.93, 1), (0.45, 0.94)])
        b.oval(0.5, 0.5, 0.58, 0.55, knob)
    else:
        b.rect(0.42, 0.1, 0.58, 0.85, (170, 205, 220))
        b.rect(0.1, 0.5, 0.22, 0.53, knob)
        b.rect(0.07, 0.9, 0.93, 1, b.shade(0.7))


def bottle(b: Brush, variant: int) -> None:
    cap: RGB = (235, 235, 230) if sum(b.main) < 500 else (60, 60, 70)
    if variant == 0:
        b.rect(0.34, 0, 0.66, 0.1, cap)
        b.rect(0.36, 0.1, 0.64, 0.32)
        b.poly([(0.36, 0.26), (0.64, 0.26), (1, 0.42), (1, 1), (0, 1), (0, 0.42)])
        b.rect(0, 0.55, 1, 0.8, b.contrast())
    elif variant == 1:
        b.rect(0.36, 0, 0.64, 0.4)
        b.oval(0, 0.26, 1, 0.6)
        b.rect(0, 0.43, 1, 1)
        b.rect(0.08, 0.5, 0.2, 0.95, b.shade(1.5))
    elif variant == 2:
        b.rect(0.25, 0, 0.75, 0.14, cap)
        b.rect(0.32, 0.14, 0.68, 0.2)
        b.rect(0, 0.2, 1, 1)
        b.oval(0, 0.14, 1, 0.3)
        b.rect(0, 0.6, 1, 0.64, b.shade(0.6))
        b.rect(0, 0.76, 1, 0.8, b.shade(0.6))
    elif variant == 3:
        b.rect(0.4, 0, 0.6, 0.36)
        b.poly([(0.4, 0.3), (0.6, 0.3), (1, 1), (0, 1)])
        b.rect(0.36, 0, 0.64, 0.06, cap)
    else:
        b.rect(0.3, 0, 0.7, 0.12, cap)
        b.poly([(0.34, 0.12), (0.66, 0.12), (0.94, 0.36), (1, 1), (0, 1), (0.06, 0.36)])
        b.oval(0.2, 0.52, 0.8, 0.82, b.contrast())


def robot(b: Brush, variant: int) -> None:
    metal, eye = (150, 155, 160), (40, 220, 235)
    if variant == 0:  # humanoid
        b.line((0.5, 0), (0.5, 0.1), 0.06, metal)
        b.rect(0.25, 0.08, 0.75, 0.36)
        b.oval(0.32, 0.16, 0.45, 0.26, eye)
        b.oval(0.55, 0.16, 0.68, 0.26, eye)
        b.rect(0.15, 0.4, 0.85, 0.8, b.shade(0.85))
        b.rect(0, 0.42, 0.12, 0.72, metal)
        b.rect(0.88, 0.42, 1, 0.72, metal)
        b.rect(0.22, 0.8, 0.42, 1, metal)
        b.rect(0.58, 0.8, 0.78, 1, metal)
    elif variant == 1:  # wheeled base with a mast
        b.rect(0.44, 0.1, 0.56, 0.6, metal)
        b.rect(0.25, 0, 0.75, 0.18)
        b.oval(0.4, 0.04, 0.6, 0.14, eye)
        b.rect(0, 0.55, 1, 0.86)
        b.oval(0.04, 0.74, 0.34, 1, (35, 35, 38))
        b.oval(0.66, 0.74, 0.96, 1, (35, 35, 38))
    elif variant == 2:  # dome on treads
        b.oval(0.1, 0, 0.9, 0.7)
        b.rect(0.1, 0.35, 0.9, 0.75)
        b.rect(0.25, 0.25, 0.75, 0.36, eye)
        b.rect(0, 0.72, 1, 1, (50, 50, 54))
        for x in (0.06, 0.3, 0.54, 0.78):
            b.oval(x, 0.76, x + 0.18, 0.96, metal)
    elif variant == 3:  # arm
        b.rect(0.1, 0.86, 0.9, 1, metal)
        b.line((0.45, 0.88), (0.22, 0.4), 0.2)
        b.line((0.22, 0.42), (0.82, 0.14), 0.17)
        b.oval(0.08, 0.28, 0.36, 0.52, b.shade(0.6))
        b.rect(0.78, 0, 0.9, 0.24, metal)
        b.rect(0, 0.36, 0.14, 0.44, metal)
        b.rect(0.88, 0.06, 1, 0.2, metal)
    else:  # wheeled humanoid
        b.line((0.5, 0), (0.5, 0.12), 0.06, metal)
        b.oval(0.28, 0.06, 0.72, 0.34)
        b.rect(0.34, 0.16, 0.66, 0.24, eye)
        b.poly([(0.25, 0.36), (0.75, 0.36), (1, 0.85), (0, 0.85)], b.shade(0.85))
        b.oval(0.05, 0.78, 0.33, 1, (35, 35, 38))
        b.oval(0.67, 0.78, 0.95, 1, (35, 35, 38))


def car(b: Brush, variant: int) -> None:
    glass, tyre = (70, 95, 115), (28, 28, 30)
    if variant == 0:  # side
        b.poly([(0.2, 0.42), (0.33, 0.02), (0.68, 0), (0.84, 0.42)])
        b.rect(0, 0.4, 1, 0.8)
        b.poly([(0.26, 0.4), (0.36, 0.1), (0.49, 0.1), (0.49, 0.4)], glass)
        b.poly([(0.53, 0.1), (0.65, 0.1), (0.76, 0.4), (0.53, 0.4)], glass)
    elif variant == 1:  # van, side
        b.poly([(0, 0), (0.74, 0), (0.92, 0.4), (1, 0.48), (1, 0.84), (0, 0.84)])
        b.poly([(0.62, 0.1), (0.72, 0.1), (0.85, 0.4), (0.62, 0.4)], glass)
        b.rect(0.1, 0.5, 0.55, 0.54, b.shade(0.7))
    elif variant == 2:  # from behind
        b.poly([(0.14, 0.4), (0.24, 0), (0.76, 0), (0.86, 0.4)])
        b.rect(0, 0.38, 1, 0.86)
        b.poly([(0.22, 0.38), (0.29, 0.08), (0.71, 0.08), (0.78, 0.38)], glass)
        b.rect(0.02, 0.46, 0.18, 0.58, (225, 50, 45))
        b.rect(0.82, 0.46, 0.98, 0.58, (225, 50, 45))
        b.rect(0.04, 0.82, 0.22, 1, tyre)
        b.rect(0.78, 0.82, 0.96, 1, tyre)
        b.rect(0.38, 0.6, 0.62, 0.7, (235, 235, 225))
        return
    elif variant == 3:  # pick-up, side
        b.poly([(0.4, 0.4), (0.46, 0), (0.7, 0), (0.82, 0.38)])
        b.rect(0, 0.36, 1, 0.8)
        b.poly([(0.46, 0.38), (0.5, 0.09), (0.67, 0.09), (0.75, 0.38)], glass)
        b.rect(0.02, 0.36, 0.38, 0.44, b.shade(0.55))
    else:  # hatchback, side
        b.poly([(0, 0.42), (0.1, 0.04), (0.6, 0), (0.8, 0.4), (1, 0.5), (1, 0.82), (0, 0.82)])
        b.poly([(0.12, 0.38), (0.17, 0.12), (0.36, 0.1), (0.36, 0.38)], glass)
        b.poly([(0.41, 0.1), (0.57, 0.1), (0.7, 0.38), (0.41, 0.38)], glass)
    for x in (0.12, 0.66):
        b.oval(x, 0.62, x + 0.22, 1, tyre)
        b.oval(x + 0.06, 0.73, x + 0.16, 0.89, (165, 165, 168))


@dataclass(frozen=True)
class Kind:
    """How a class is drawn, and its width over height."""

    draw: Callable[[Brush, int], None]
    aspect: tuple[float, float]
    variants: int = 5  #: the last one is held out
    bends: float = 1.0  #: how far training may change its proportions, 0 for not at all


KINDS: dict[str, Kind] = {
    "person": Kind(person, (0.34, 0.46)),
    "cone": Kind(cone, (0.6, 0.85)),
    "ball": Kind(ball, (0.95, 1.05), bends=0.0),
    "box": Kind(box, (0.85, 1.5)),
    "barrel": Kind(barrel, (0.6, 0.8)),
    "chair": Kind(chair, (0.55, 0.8)),
    "door": Kind(door, (0.42, 0.55)),
    "bottle": Kind(bottle, (0.32, 0.45)),
    "robot": Kind(robot, (0.6, 0.85)),
    "car": Kind(car, (1.6, 2.3)),
}
