"""Ten things a robot meets, each drawn in several ways with OpenCV.

A drawing fills its box exactly: every variant touches all four sides, so that the box is the
truth. Variant ``HELD_OUT`` of each class is held out: training never sees it. The ones after it differ
every time they are drawn, in proportions, parts and marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

RGB = tuple[int, int, int]
Point = tuple[float, float]

HELD_OUT = 4

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


def shade_of(colour: str, rng: np.random.Generator) -> RGB:
    """A colour by its name as a thing may have it: a little off, lighter or darker."""
    shade = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 9, 3) + rng.normal(0, 10), 0, 255)
    return (int(shade[0]), int(shade[1]), int(shade[2]))


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
Edge = Callable[[float], float]


class Palette:
    """What a thing is coloured and varied with: its main colour, others beside it, and chance."""

    def __init__(self, colour: RGB, rng: np.random.Generator) -> None:
        self.main = colour
        self.rng = rng

    def shade(self, factor: float, colour: RGB | None = None) -> RGB:
        """A darker (< 1) or lighter (> 1) version of a colour, the main one by default."""
        rgb = np.asarray(colour or self.main, float)
        rgb = rgb * factor if factor <= 1 else rgb + (255 - rgb) * (factor - 1)
        return (int(rgb[0]), int(rgb[1]), int(rgb[2]))

    def contrast(self) -> RGB:
        """Something well set off from the main colour, for stripes and marks."""
        return (240, 240, 236) if sum(self.main) < 420 else (45, 45, 50)

    def other(self) -> RGB:
        """A second colour: a shade of the main one, one set off from it, or a dull one."""
        kind = int(self.rng.integers(4))
        if kind == 0:
            return self.contrast()
        if kind == 1:
            return self.grey()
        return self.shade(self.pick(0.45, 0.8) if kind == 2 else self.pick(1.2, 1.6))

    def grey(self) -> RGB:
        value = int(self.rng.integers(25, 215))
        return (
            value,
            min(value + int(self.rng.integers(8)), 255),
            min(value + int(self.rng.integers(12)), 255),
        )

    def pick(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)


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


def person(b: Brush, variant: int) -> None:
    if variant > HELD_OUT:
        return _more_person(b, variant)
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
    if variant > HELD_OUT:
        return _more_cone(b, variant)
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
    if variant > HELD_OUT:
        return _more_ball(b, variant)
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
    if variant > HELD_OUT:
        return _more_box(b, variant)
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
    if variant > HELD_OUT:
        return _more_barrel(b, variant)
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
    if variant > HELD_OUT:
        return _more_chair(b, variant)
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
    if variant > HELD_OUT:
        return _more_door(b, variant)
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
    if variant > HELD_OUT:
        return _more_bottle(b, variant)
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
    if variant > HELD_OUT:
        return _more_robot(b, variant)
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
    if variant > HELD_OUT:
        return _more_car(b, variant)
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


# --- further drawings, no two alike ---------------------------------------------------------------


def _more_person(b: Brush, variant: int) -> None:
    skin = ((236, 188, 150), (198, 140, 100), (120, 78, 52), (90, 60, 42))[int(b.rng.integers(4))]
    trousers, shoes = b.grey(), (30, 30, 30)
    hair = ((40, 28, 20), (110, 75, 40), (190, 160, 90), (150, 150, 150))[int(b.rng.integers(4))]
    neck, hip = b.pick(0.15, 0.2), b.pick(0.48, 0.6)
    wide = b.pick(0.16, 0.3)  # half the shoulders
    if variant == 5:  # limbs at any angle
        feet = (b.pick(0.0, 0.35), b.pick(0.65, 1.0))
        for x, foot in ((0.44, feet[0]), (0.56, feet[1])):
            b.line((x, hip - 0.03), (foot * 0.8 + 0.1, 0.97), b.pick(0.16, 0.26), trousers)
        for side, foot in zip((-1, 1), feet, strict=True):
            b.rect(min(max(foot - 0.1, 0), 0.8), 0.95, min(max(foot + 0.1, 0.2), 1), 1, shoes)
            hand = (0.0 if side < 0 else 1.0, b.pick(0.05, 0.6))
            b.line((0.5 + side * wide * 0.8, neck + 0.05), hand, b.pick(0.12, 0.2), b.shade(b.pick(0.7, 1.1)))
        b.poly([(0.5 - wide, neck), (0.5 + wide, neck), (0.64, hip), (0.36, hip)])
    elif variant == 6:  # dress or skirt, or an apron
        hem = b.pick(0.62, 0.8)
        b.rect(0.34, hem - 0.02, 0.45, 1, skin if b.chance(0.5) else trousers)
        b.rect(0.55, hem - 0.02, 0.66, 1, skin if b.chance(0.5) else trousers)
        b.poly([(0.4, neck), (0.6, neck), (1, hem), (0, hem)])
        b.line((0.4, neck + 0.04), (b.pick(0.02, 0.2), hip), 0.13, skin)
        b.line((0.6, neck + 0.04), (b.pick(0.8, 0.98), hip), 0.13, skin)
        b.poly([(0.5 - wide, neck), (0.5 + wide, neck), (0.62, hip * 0.8), (0.38, hip * 0.8)], b.shade(0.9))
    elif variant == 7:  # from behind, with a pack or carrying something
        b.rect(0.27, hip - 0.02, 0.48, 0.97, trousers)
        b.rect(0.52, hip - 0.02, 0.73, 0.97, trousers)
        b.rect(0.22, 0.95, 0.78, 1, shoes)
        b.rect(0, neck + 0.02, 1, hip - b.pick(0, 0.1), b.shade(0.8))
        b.rect(0.14, neck, 0.86, hip)
        load = b.pick(0.12, 0.22)
        b.rect(0.5 - load, neck + 0.06, 0.5 + load, neck + 0.06 + b.pick(0.1, 0.25), b.other())
    else:  # overalls in one colour, feet apart
        spread = b.pick(0.05, 0.2)
        b.poly([(0.3, hip), (0.5, hip), (0.46, 0.96), (spread, 0.96)], b.shade(0.9))
        b.poly([(0.5, hip), (0.7, hip), (1 - spread, 0.96), (0.54, 0.96)], b.shade(0.85))
        b.rect(max(spread - 0.1, 0), 0.95, 0.44, 1, shoes)
        b.rect(0.56, 0.95, min(1.1 - spread, 1), 1, shoes)
        b.poly(
            [
                (0.2, neck),
                (0.8, neck),
                (1, hip),
                (0.86, hip + 0.04),
                (0.7, 0.32),
                (0.72, hip + 0.03),
                (0.28, hip + 0.03),
                (0.3, 0.32),
                (0.14, hip + 0.04),
                (0, hip),
            ]
        )
        b.bands(neck + 0.02, hip, 2, lambda y: 0.28, lambda y: 0.72)
    size = b.pick(0.16, 0.24)
    b.oval(0.5 - size, 0, 0.5 + size, neck + 0.01, skin)
    if b.chance(0.7):
        deep = b.pick(0.04, 0.14)
        b.oval(0.5 - size * 1.05, 0, 0.5 + size * 1.05, deep, hair if b.chance(0.7) else b.other())


def _more_cone(b: Brush, variant: int) -> None:
    base, tip = b.pick(0.82, 0.96), b.pick(0.02, 0.1)
    foot = b.pick(0.3, 0.48)  # half the width of the body where it stands

    def left(y: float) -> float:
        return 0.5 - tip - (foot - tip) * min(y / base, 1)

    def right(y: float) -> float:
        return 1 - left(y)

    under = b.shade(b.pick(0.6, 1.2)) if b.chance(0.6) else b.grey()
    if variant == 5:  # a plate under it
        b.rect(0, base - 0.02, 1, 1, under)
    elif variant == 6:  # a plate seen from above
        back = base - b.pick(0.05, 0.16)
        b.poly(
            [
                (0, (back + 1) / 2),
                (0.5 - foot * 0.9, back),
                (0.5 + foot * 0.9, back),
                (1, (back + 1) / 2),
                (0.92, 1),
                (0.08, 1),
            ],
            under,
        )
    elif variant == 7:  # a round foot
        b.oval(0, base - 0.12, 1, 1, under)
    else:  # flared, without a foot
        waist = b.pick(0.5, 0.8)
        narrow = b.pick(0.12, 0.22)
        b.poly([(0.5 - tip, 0), (0.5 + tip, 0), (0.5 + narrow, waist), (1, 1), (0, 1), (0.5 - narrow, waist)])
        b.bands(
            0.1,
            waist,
            2,
            lambda y: 0.5 - tip - (narrow - tip) * y / waist,
            lambda y: 0.5 + tip + (narrow - tip) * y / waist,
        )
        return
    b.poly([(left(0), 0), (right(0), 0), (right(base), base), (left(base), base)])
    if b.chance(0.4):  # the side in shadow
        b.poly(
            [(0.5, 0), (right(0), 0), (right(base), base), (b.pick(0.45, 0.6), base)],
            b.shade(b.pick(0.7, 0.9)),
        )
    b.bands(0.1, base * 0.95, 3, left, right)


def _more_ball(b: Brush, variant: int) -> None:
    b.oval(0, 0, 1, 1)
    if variant == 5:  # segments of a beach ball
        pole, number = (b.pick(0.3, 0.7), b.pick(0.2, 0.6)), int(b.rng.integers(5, 9))
        turn = b.pick(0, 6.28)
        colour = b.other()
        for i in range(0, number - 1, 2):
            angles = turn + np.linspace(i, i + 0.8, 6) * 2 * np.pi / number
            rim = [(0.5 + 0.49 * float(np.cos(a)), 0.5 + 0.49 * float(np.sin(a))) for a in angles]
            b.poly([pole, *rim], colour)
    elif variant == 6:  # dots
        colour, radius = b.other(), b.pick(0.04, 0.1)
        for _ in range(int(b.rng.integers(3, 9))):
            angle, far = b.pick(0, 6.28), b.pick(0, 0.5 - radius - 0.02)
            x, y = 0.5 + far * float(np.cos(angle)), 0.5 + far * float(np.sin(angle))
            b.oval(x - radius, y - radius, x + radius, y + radius, colour)
    elif variant == 7:  # round in the light
        x, y, steps = b.pick(0.25, 0.75), b.pick(0.15, 0.6), int(b.rng.integers(3, 8))
        for i in range(steps):
            part = 1 - (i + 1) / (steps + 1)
            middle = (0.5 + (x - 0.5) * (1 - part), 0.5 + (y - 0.5) * (1 - part))
            r = 0.5 * part
            tone = b.shade(0.75 + 0.7 * (1 - part))
            b.oval(middle[0] - r, middle[1] - r, middle[0] + r, middle[1] + r, tone)
    else:  # curved seams
        colour, thick = b.other(), b.pick(0.02, 0.05)
        for _ in range(int(b.rng.integers(1, 4))):
            turn, bow = b.pick(0, 6.28), b.pick(-0.35, 0.35)
            t = np.linspace(-0.46, 0.46, 9)
            u, v = t, bow * (1 - (t / 0.46) ** 2)
            x = 0.5 + u * np.cos(turn) - v * np.sin(turn)
            y = 0.5 + u * np.sin(turn) + v * np.cos(turn)
            for i in range(8):
                b.line((float(x[i]), float(y[i])), (float(x[i + 1]), float(y[i + 1])), thick, colour)


def _more_box(b: Brush, variant: int) -> None:
    tones = b.rng.permutation([b.pick(0.5, 0.75), b.pick(0.8, 1.0), b.pick(1.1, 1.45)])
    top, side, front = (b.shade(float(t)) for t in tones)
    if variant == 5:  # any slant, seen from a side above
        dx, dy = b.pick(0.06, 0.45), b.pick(0.06, 0.45)
        b.poly([(0, dy), (dx, 0), (1, 0), (1 - dx, dy)], top)
        b.poly([(1 - dx, dy), (1, 0), (1, 1 - dy), (1 - dx, 1)], side)
        b.rect(0, dy, 1 - dx, 1, front)
        x0, x1, y0, y1 = 0.0, 1 - dx, dy, 1.0
        if b.chance(0.4):  # tape over the lid
            tape = b.pick(0.3, 0.5) * (1 - dx)
            b.poly([(tape, dy), (tape + dx, 0), (tape + dx + 0.1, 0), (tape + 0.1, dy)], b.other())
    elif variant == 6:  # an edge towards the camera
        x, far, near = b.pick(0.3, 0.7), b.pick(0.12, 0.3), b.pick(0.25, 0.45)
        left, right = far * b.pick(0.7, 1.3), far * b.pick(0.7, 1.3)
        b.poly([(0, left), (x, near), (x, 1), (0, 1 - (near - left) * 0.8)], front)
        b.poly([(x, near), (1, right), (1, 1 - (near - right) * 0.8), (x, 1)], side)
        b.poly([(0, left), (1 - x, 0), (1, right), (x, near)], top)
        return
    elif variant == 7:  # open, with flaps
        rim, inset = b.pick(0.15, 0.35), b.pick(0.08, 0.2)
        b.poly([(inset, rim), (0, b.pick(0.02, rim)), (0.3, 0), (0.45, rim)], side)
        b.poly([(1 - inset, rim), (1, b.pick(0.02, rim)), (0.7, 0), (0.55, rim)], side)
        b.rect(inset, rim * 0.7, 1 - inset, rim, b.shade(0.4))
        b.poly([(0, rim), (1, rim), (1 - inset * 0.5, 1), (inset * 0.5, 1)], front)
        x0, x1, y0, y1 = inset, 1 - inset, rim, 1.0
    else:  # crate or tote, straight on
        lean = b.pick(0, 0.1)
        b.poly([(0, 0), (1, 0), (1 - lean, 1), (lean, 1)])
        if b.chance(0.6):
            b.rect(0, 0, 1, b.pick(0.08, 0.25), b.shade(b.pick(0.6, 1.3)))
        for i in range(int(b.rng.integers(0, 6))):
            x = 0.14 + 0.14 * i
            b.rect(x, 0.25, x + b.pick(0.02, 0.05), 0.98, b.shade(0.7))
        x0, x1, y0, y1 = lean, 1 - lean, 0.1, 1.0
    if b.chance(0.7):  # a label, print or a handle's hole
        w, h = b.pick(0.1, 0.5) * (x1 - x0), b.pick(0.08, 0.4) * (y1 - y0)
        x, y = b.pick(x0 + 0.03, x1 - w - 0.03), b.pick(y0 + 0.03, y1 - h - 0.03)
        b.rect(x, y, x + w, y + h, b.other())


def _more_barrel(b: Brush, variant: int) -> None:
    deep = b.pick(0.08, 0.38)  # of the lid's oval: how far from above it is seen
    bulge = 0.0
    if variant == 5:  # staves and hoops
        bulge = b.pick(0.06, 0.18)

    def left(y: float) -> float:
        return bulge * (2 * y - 1) ** 2

    def right(y: float) -> float:
        return 1 - left(y)

    heights = np.linspace(deep / 2, 1 - deep / 2, 12)
    outline = [(left(y), float(y)) for y in heights] + [(right(y), float(y)) for y in heights[::-1]]
    low = deep * b.pick(0.4, 1.0)
    b.oval(left(1), 1 - low, right(1), 1, b.shade(b.pick(0.7, 0.95)))
    if variant == 8:  # plastic, with shoulders and a lid of another colour
        shoulder = b.pick(0.1, 0.2)
        b.poly([(0.15, 0.04), (0.85, 0.04), (1, shoulder), (1, 1 - low / 2), (0, 1 - low / 2), (0, shoulder)])
        b.rect(b.pick(0.1, 0.2), 0, b.pick(0.8, 0.9), b.pick(0.06, 0.12), b.other())
        b.bands(shoulder, 0.9, 3, lambda y: 0.0, lambda y: 1.0)
        return
    b.poly(outline)
    if b.chance(0.6):  # a side in shadow
        x = b.pick(0.55, 0.85)
        b.poly(
            [
                (x, deep / 2),
                (right(deep / 2), deep / 2),
                (1, 0.5),
                (right(0.95), 1 - low / 2),
                (x, 1 - low / 2),
            ],
            b.shade(b.pick(0.65, 0.9)),
        )
    if variant == 6:  # rolled rings
        number = int(b.rng.integers(1, 6))
        tone = b.shade(b.pick(0.5, 0.8) if b.chance(0.5) else b.pick(1.2, 1.5))
        for i in range(number):
            y = deep + (i + 0.7) * (0.95 - deep) / (number + 0.5)
            b.rect(0, y, 1, y + b.pick(0.02, 0.05), tone)
    elif variant == 7:  # a placard
        x, y = b.pick(0.15, 0.45), b.pick(deep + 0.1, 0.5)
        b.rect(x, y, x + b.pick(0.2, 0.4), y + b.pick(0.15, 0.35), b.other())
    else:
        b.bands(deep, 1 - low, 4, left, right)
    lid = b.shade(b.pick(1.1, 1.5) if b.chance(0.7) else b.pick(0.5, 0.85))
    b.oval(left(0), 0, right(0), deep, lid)
    if b.chance(0.5):
        x = b.pick(0.2, 0.7)
        b.oval(x, deep * 0.3, x + 0.15, deep * 0.7, b.grey())


def _more_chair(b: Brush, variant: int) -> None:
    leg = b.shade(b.pick(0.5, 0.9)) if b.chance(0.5) else b.grey()
    seat, thick = b.pick(0.45, 0.6), b.pick(0.06, 0.14)
    post = b.pick(0.08, 0.15)
    if variant == 5:  # a shell on four thin legs
        for x0, x1 in ((0.2, 0), (0.8, 1), (0.35, 0.25), (0.65, 0.75)):
            b.line((x0, seat), (x1 * 0.94 + 0.03, 0.98), 0.07, leg)
        b.rect(0, 0.95, 0.08, 1, leg)
        b.rect(0.92, 0.95, 1, 1, leg)
        narrow = b.pick(0.02, 0.2)
        b.poly([(narrow, 0), (1 - narrow, 0), (0.92, seat), (0.08, seat)])
        b.poly(
            [(0.06, seat - 0.04), (0.94, seat - 0.04), (1, seat + thick), (0, seat + thick)], b.shade(0.85)
        )
    elif variant == 6:  # from the side, legs slanted, any back
        lean = b.pick(0, 0.16)
        b.line((lean + 0.06, seat), (0.06, 1), post, leg)
        b.line((0.9, seat), (0.94, 1), post, leg)
        b.rect(0, 0.96, 0.14, 1, leg)
        b.rect(0.86, 0.96, 1, 1, leg)
        b.poly([(0, 0), (post + 0.03, 0), (lean + post + 0.06, seat + thick), (lean, seat + thick)])
        b.rect(lean, seat, 1, seat + thick, b.shade(b.pick(0.8, 1.2)))
        if b.chance(0.4):  # an arm
            b.rect(lean, seat - 0.2, 0.8, seat - 0.15, leg)
            b.rect(0.74, seat - 0.2, 0.8, seat, leg)
    elif variant == 7:  # from behind or in front, uprights with slats or rungs
        b.rect(0, 0, post, 1, leg)
        b.rect(1 - post, 0, 1, 1, leg)
        if b.chance(0.5):
            for i in range(int(b.rng.integers(1, 4))):
                y = 0.02 + 0.15 * i
                b.rect(0, y, 1, y + b.pick(0.06, 0.13))
        else:
            b.rect(0, 0.02, 1, b.pick(0.1, 0.15))
            for i in range(int(b.rng.integers(2, 5))):
                x = 0.18 + 0.18 * i
                b.rect(x, 0.05, min(x + 0.08, 1), seat)
        b.rect(0, seat, 1, seat + thick, b.shade(b.pick(0.8, 1.2)))
        if b.chance(0.5):
            b.rect(0, 0.78, 1, 0.83, leg)
    else:  # on a foot or a swivel
        b.rect(0.45, seat, 0.55, 0.95, leg)
        if b.chance(0.5):
            b.oval(0, 0.9, 1, 1, leg)
        else:
            b.line((0.5, 0.88), (0.04, 0.98), 0.09, leg)
            b.line((0.5, 0.88), (0.96, 0.98), 0.09, leg)
            b.rect(0, 0.94, 0.1, 1, (40, 40, 40))
            b.rect(0.9, 0.94, 1, 1, (40, 40, 40))
        edge = b.pick(0.1, 0.3)
        if b.chance(0.5):
            b.rect(edge, 0, 1 - edge, seat - b.pick(0, 0.08))
        else:
            b.oval(edge, 0, 1 - edge, seat + 0.02)
        b.oval(0.02, seat - 0.06, 0.98, seat + thick, b.shade(b.pick(0.8, 1.2)))


def _more_door(b: Brush, variant: int) -> None:
    frame = b.pick(0.03, 0.1)
    b.rect(0, 0, 1, 1, b.shade(b.pick(0.5, 0.8)) if b.chance(0.6) else b.grey())
    x0, x1, y0 = frame, 1 - frame, frame * 0.5
    b.rect(x0, y0, x1, 1)
    glass = ((170, 205, 220), (95, 120, 140), (205, 225, 230))[int(b.rng.integers(3))]
    wide = x1 - x0
    if variant == 5:  # two leaves
        b.rect(0.49, y0, 0.51, 1, b.shade(0.5))
        for x in (x0 + 0.07 * wide, 0.5 + 0.07 * wide):
            if b.chance(0.7):
                b.rect(x, 0.1, x + 0.36 * wide, b.pick(0.3, 0.55), glass if b.chance(0.5) else b.shade(0.8))
            b.rect(x, 0.62, x + 0.36 * wide, 0.93, b.shade(b.pick(0.75, 1.2)))
        b.rect(0.43, 0.5, 0.46, 0.58, b.grey())
        b.rect(0.54, 0.5, 0.57, 0.58, b.grey())
        return
    if variant == 6:  # panels in a grid
        rows, columns = int(b.rng.integers(2, 6)), int(b.rng.integers(1, 4))
        tone = b.shade(b.pick(0.7, 0.9) if b.chance(0.6) else b.pick(1.15, 1.4))
        for i in range(rows):
            for j in range(columns):
                x, y = x0 + (j + 0.15) * wide / columns, 0.06 + (i + 0.12) * 0.9 / rows
                b.rect(x, y, x + 0.7 * wide / columns, y + 0.76 * 0.9 / rows, tone)
    elif variant == 7:  # a window of any shape
        w, top, tall = b.pick(0.2, 0.7) * wide, b.pick(0.08, 0.2), b.pick(0.12, 0.6)
        x = b.pick(x0 + 0.05, x1 - w - 0.05)
        if b.chance(0.3):
            b.oval(x, top, x + w, top + w * 0.5, glass)
        else:
            b.rect(x, top, x + w, top + tall, glass)
            if b.chance(0.4):
                b.rect(x, top + tall / 2 - 0.01, x + w, top + tall / 2 + 0.01)
    else:  # planks, braces, or plain
        if b.chance(0.6):
            for i in range(1, int(b.rng.integers(3, 7))):
                x = x0 + i * wide / 6
                b.rect(x, y0, x + 0.015, 1, b.shade(0.7))
        if b.chance(0.5):
            for y in (b.pick(0.12, 0.25), b.pick(0.7, 0.85)):
                b.rect(x0, y, x1, y + 0.06, b.shade(b.pick(0.7, 1.2)))
        if b.chance(0.4):
            b.rect(x0, 0.86, x1, 1, b.grey())
    hand = x0 + 0.06 * wide if b.chance(0.5) else x1 - 0.16 * wide
    knob: RGB = (210, 190, 110) if b.chance(0.5) else b.grey()
    y = b.pick(0.46, 0.58)
    if b.chance(0.5):
        b.oval(hand, y, hand + 0.1 * wide, y + 0.04, knob)
    else:
        b.rect(hand, y, hand + 0.1 * wide, y + b.pick(0.015, 0.12), knob)


def _more_bottle(b: Brush, variant: int) -> None:
    cap = b.other()
    neck, shoulder = b.pick(0.1, 0.22), b.pick(0.2, 0.5)  # half the neck's width; where the body begins
    lid = b.pick(0.05, 0.14)
    foot = b.pick(0.0, 0.08)
    b.rect(0.5 - neck, lid * 0.8, 0.5 + neck, shoulder)
    if variant == 5:  # shoulders straight
        b.poly(
            [
                (0.5 - neck, shoulder - b.pick(0.02, 0.2)),
                (0.5 + neck, shoulder - 0.05),
                (1, shoulder),
                (1, 1 - foot),
                (1 - foot, 1),
                (foot, 1),
                (0, 1 - foot),
                (0, shoulder),
            ]
        )
    elif variant == 6:  # shoulders round
        b.oval(0, shoulder - b.pick(0.1, 0.16), 1, shoulder + 0.16)
        b.rect(0, shoulder, 1, 1)
    elif variant == 7:  # a waist
        waist, narrow = b.pick(0.55, 0.75), b.pick(0.08, 0.2)
        b.poly(
            [
                (0.5 - neck, shoulder - 0.1),
                (0.5 + neck, shoulder - 0.1),
                (1, shoulder + 0.08),
                (1, waist - 0.1),
                (1 - narrow, waist),
                (1, waist + 0.1),
                (1, 1),
                (0, 1),
                (0, waist + 0.1),
                (narrow, waist),
                (0, waist - 0.1),
                (0, shoulder + 0.08),
            ]
        )
    else:  # a flask, round or slim, perhaps with a handle or a pump
        b.poly(
            [
                (0.5 - neck, shoulder - 0.1),
                (0.5 + neck, shoulder - 0.1),
                (1, b.pick(0.6, 0.95)),
                (0.95, 1),
                (0.05, 1),
                (0, b.pick(0.6, 0.95)),
            ]
        )
        b.rect(0, 0.9, 1, 1)
        if b.chance(0.4):
            b.rect(0.1, 0, 0.5, 0.05, cap)
    b.rect(0.5 - neck * b.pick(1.0, 1.3), 0, 0.5 + neck * b.pick(1.0, 1.3), lid, cap)
    y = shoulder + b.pick(0.1, 0.25)
    if b.chance(0.7):  # a label
        tall = b.pick(0.1, 0.35)
        if b.chance(0.7):
            b.rect(0.03, y, 0.97, min(y + tall, 0.97), b.other())
        else:
            b.oval(0.15, y, 0.85, min(y + tall, 0.97), b.other())
    if b.chance(0.5):  # a reflection
        x = b.pick(0.08, 0.3)
        b.rect(x, shoulder + 0.1, x + 0.1, 0.92, b.shade(b.pick(1.2, 1.6)))


def _more_robot(b: Brush, variant: int) -> None:
    metal, dark = b.grey(), (40, 40, 44)
    eye = ((40, 220, 235), (250, 90, 60), (120, 250, 120), (245, 245, 245))[int(b.rng.integers(4))]
    head, body = b.pick(0.2, 0.36), b.pick(0.66, 0.84)  # where head and body end
    half = b.pick(0.16, 0.32)
    if b.chance(0.4):  # an aerial or lamp
        b.rect(0.47, 0, 0.53, 0.12, metal)
        top = 0.06
    else:
        top = 0.0
    b.rect(0.42, head - 0.06, 0.58, head + 0.1, metal)
    if b.chance(0.5):
        b.rect(0.5 - half, top, 0.5 + half, head)
    else:
        b.oval(0.5 - half, top, 0.5 + half, head + 0.02)
    b.rect(0.4, 0, 0.6, top + 0.02, metal)
    if b.chance(0.5):  # one visor or two eyes
        y = (top + head) / 2
        b.rect(0.5 - half * 0.75, y - 0.03, 0.5 + half * 0.75, y + 0.04, dark if b.chance(0.3) else eye)
    else:
        y, r = (top + head) / 2, b.pick(0.03, 0.06)
        for x in (0.5 - half * 0.5, 0.5 + half * 0.5):
            b.oval(x - r, y - r * 0.8, x + r, y + r * 0.8, eye)
    tone = b.shade(b.pick(0.75, 1.2))
    if variant == 5:  # legs and arms
        wide = b.pick(0.24, 0.38)
        b.rect(0.5 - wide, head + 0.03, 0.5 + wide, body, tone)
        for side in (-1, 1):
            hand = (0.02 if side < 0 else 0.98, b.pick(0.3, 0.8))
            b.line((0.5 + side * wide, head + 0.1), hand, 0.12, metal)
            b.line(
                (0.5 + side * wide * 0.6, body - 0.02), (0.5 + side * b.pick(0.15, 0.4), 0.97), 0.16, metal
            )
        b.rect(0.1, 0.94, 0.42, 1, dark)
        b.rect(0.58, 0.94, 0.9, 1, dark)
        b.rect(0, 0.4, 0.08, 0.5, metal)
        b.rect(0.92, 0.4, 1, 0.5, metal)
    elif variant == 6:  # on tracks
        b.poly([(0.2, head + 0.04), (0.8, head + 0.04), (1, body), (0, body)], tone)
        b.rect(0, body - 0.04, 1, 1, dark)
        for i in range(4):
            b.oval(0.03 + 0.25 * i, body + 0.02, 0.2 + 0.25 * i, 0.97, metal)
    elif variant == 7:  # a column on a wheeled base
        wide, base = b.pick(0.12, 0.3), b.pick(0.7, 0.82)
        b.rect(0.5 - wide, head, 0.5 + wide, base, tone)
        b.rect(0, base - 0.08, 1, 0.92, b.shade(b.pick(0.6, 1.0)))
        r = b.pick(0.08, 0.14)
        for x in (0.06 + r, 0.94 - r):
            b.oval(x - r, 1 - 1.5 * r, x + r, 1, dark)
    else:  # a round body, arms hanging
        b.oval(0.1, head - 0.02, 0.9, body + 0.12, tone)
        b.rect(0, head + 0.1, 0.12, body, metal)
        b.rect(0.88, head + 0.1, 1, body, metal)
        b.rect(0.25, body, 0.45, 1, metal)
        b.rect(0.55, body, 0.75, 1, metal)
    if b.chance(0.5):  # a panel on the chest
        x, y = b.pick(0.34, 0.46), b.pick(head + 0.1, body - 0.15)
        b.rect(x, y, x + b.pick(0.1, 0.2), y + b.pick(0.06, 0.14), b.other())


def _more_car(b: Brush, variant: int) -> None:
    glass = ((70, 95, 115), (40, 48, 58), (150, 180, 200))[int(b.rng.integers(3))]
    tyre, rim = (28, 28, 30), b.grey()
    belt, sill = b.pick(0.34, 0.5), b.pick(0.76, 0.86)
    if variant == 5:  # from the front
        roof = b.pick(0.14, 0.26)
        b.poly([(0.08, belt), (roof, 0), (1 - roof, 0), (0.92, belt)])
        b.rect(0, belt - 0.03, 1, 0.88, b.shade(0.95))
        b.poly([(0.15, belt), (roof + 0.05, 0.07), (0.95 - roof, 0.07), (0.85, belt)], glass)
        low = belt + b.pick(0.1, 0.2)
        for x in (0.03, 0.8):
            b.oval(x, low, x + 0.17, low + 0.14, (245, 240, 215))
        b.rect(0.3, low, 0.7, low + b.pick(0.08, 0.2), (45, 45, 48))
        b.rect(0.04, 0.82, 0.2, 1, tyre)
        b.rect(0.8, 0.82, 0.96, 1, tyre)
        return
    if variant == 6:  # saloon or coupe, any roof
        a, c = b.pick(0.1, 0.25), b.pick(0.62, 0.76)
        e = min(c + b.pick(0.08, 0.16), 0.9)
        b.poly([(a, belt), (a + b.pick(0.08, 0.14), 0), (c, 0), (e, belt)])
        b.poly(
            [
                (0, belt + b.pick(-0.02, 0.06)),
                (e, belt - 0.03),
                (1, belt + b.pick(0, 0.12)),
                (1, sill),
                (0, sill),
            ]
        )
        post = (a + c) / 2 + 0.04
        b.poly(
            [(a + 0.07, belt - 0.02), (a + 0.15, 0.1), (post - 0.02, 0.1), (post - 0.02, belt - 0.02)], glass
        )
        b.poly(
            [(post + 0.02, 0.1), (c - 0.02, 0.1), (e - 0.07, belt - 0.02), (post + 0.02, belt - 0.02)], glass
        )
    elif variant == 7:  # tall: an estate, a van with windows, a small bus
        nose = b.pick(0.8, 0.96)
        b.poly([(0, 0), (nose - 0.12, 0), (nose, belt), (1, belt + 0.06), (1, sill), (0, sill)])
        number = int(b.rng.integers(1, 5))
        for i in range(number):
            x = 0.04 + i * (nose - 0.2) / number
            b.rect(x, 0.09, x + (nose - 0.26) / number, belt - 0.02, glass)
        b.poly(
            [
                (nose - 0.17, 0.09),
                (nose - 0.12, 0.09),
                (nose - 0.04, belt - 0.02),
                (nose - 0.17, belt - 0.02),
            ],
            glass,
        )
    else:  # a truck: cab and load
        cab = b.pick(0.66, 0.78)
        b.rect(0, 0, cab - 0.03, sill, b.shade(b.pick(0.85, 1.1)))
        b.poly([(cab, 0.12), (0.9, 0.12), (1, belt), (1, sill), (cab, sill)])
        b.rect(0, sill - 0.08, 1, sill, b.grey())
        b.poly([(cab + 0.05, 0.18), (0.88, 0.18), (0.95, belt), (cab + 0.05, belt)], glass)
    if b.chance(0.5):
        b.rect(0.02, belt + 0.12, 0.98, belt + 0.15, b.shade(b.pick(0.6, 1.3)))
    r = b.pick(0.08, 0.13)  # of a wheel, in widths
    for x in (b.pick(0.14, 0.22), b.pick(0.76, 0.84)):
        b.oval(x - r, sill - 0.2, x + r, 1, tyre)
        b.oval(x - r * 0.5, sill - 0.1, x + r * 0.5, 0.92, rim)


@dataclass(frozen=True)
class Kind:
    """How a class is drawn, and its width over height."""

    draw: Callable[[Brush, int], None]
    aspect: tuple[float, float]
    variants: int = 9  #: HELD_OUT is one of them
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
