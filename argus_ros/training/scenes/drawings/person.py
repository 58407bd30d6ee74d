"""People: standing, walking, at work, from the front, the side and behind."""

from __future__ import annotations

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind


def fixed(b: Brush, variant: int) -> None:
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


def varied(b: Brush, variant: int) -> None:
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


KIND = Kind(fixed, varied, (0.34, 0.46))
