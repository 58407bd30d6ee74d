"""Robots: humanoid, on wheels, on tracks, an arm."""

from __future__ import annotations

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind


def fixed(b: Brush, variant: int) -> None:
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


def varied(b: Brush, variant: int) -> None:
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


KIND = Kind(fixed, varied, (0.6, 0.85))
