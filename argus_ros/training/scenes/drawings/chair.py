"""Chairs: for a table, an office or a living room."""

from __future__ import annotations

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind


def fixed(b: Brush, variant: int) -> None:
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


def varied(b: Brush, variant: int) -> None:
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


KIND = Kind(fixed, varied, (0.55, 0.8))
