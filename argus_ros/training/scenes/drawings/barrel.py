"""Barrels: steel drums, casks and plastic drums."""

from __future__ import annotations

import numpy as np

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind


def fixed(b: Brush, variant: int) -> None:
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


def varied(b: Brush, variant: int) -> None:
    deep = b.pick(0.08, 0.38)  # height of the lid's oval: larger when seen from further above
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


KIND = Kind(fixed, varied, (0.6, 0.8))
