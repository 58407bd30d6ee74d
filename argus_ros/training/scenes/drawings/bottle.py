"""Bottles and flasks, with caps and labels."""

from __future__ import annotations

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind
from argus_ros.training.scenes.palette import RGB


def fixed(b: Brush, variant: int) -> None:
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


def _body(b: Brush, variant: int, neck: float, shoulder: float, foot: float, cap: RGB) -> None:
    """The body; ``neck`` is half the neck's width, ``shoulder`` the y at which the body begins."""
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


def varied(b: Brush, variant: int) -> None:
    cap = b.other()
    neck, shoulder = b.pick(0.1, 0.22), b.pick(0.2, 0.5)
    lid = b.pick(0.05, 0.14)
    foot = b.pick(0.0, 0.08)
    b.rect(0.5 - neck, lid * 0.8, 0.5 + neck, shoulder)
    _body(b, variant, neck, shoulder, foot, cap)
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


KIND = Kind(fixed, varied, (0.32, 0.45))
