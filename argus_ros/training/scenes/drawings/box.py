"""Boxes: cartons, crates and totes, closed and open."""

from __future__ import annotations

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind


def fixed(b: Brush, variant: int) -> None:
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


def varied(b: Brush, variant: int) -> None:
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


KIND = Kind(fixed, varied, (0.85, 1.5))
