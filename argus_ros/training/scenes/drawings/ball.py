"""Balls: plain, striped, dotted, with seams."""

from __future__ import annotations

import numpy as np

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind


def fixed(b: Brush, variant: int) -> None:
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


def varied(b: Brush, variant: int) -> None:
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
    elif variant == 7:  # shaded like a sphere
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


KIND = Kind(fixed, varied, (0.95, 1.05), bends=0.0)
