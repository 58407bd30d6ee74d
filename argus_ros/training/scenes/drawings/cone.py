"""Traffic cones, with and without bands and feet."""

from __future__ import annotations

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind


def fixed(b: Brush, variant: int) -> None:
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


def varied(b: Brush, variant: int) -> None:
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


KIND = Kind(fixed, varied, (0.6, 0.85))
