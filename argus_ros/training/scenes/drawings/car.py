"""Cars: saloons, vans, pick-ups and trucks, from the side, the front and behind."""

from __future__ import annotations

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind
from argus_ros.training.scenes.palette import RGB


def fixed(b: Brush, variant: int) -> None:
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


def _front(b: Brush, belt: float, glass: RGB, tyre: RGB) -> None:
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


def _body(b: Brush, variant: int, belt: float, sill: float, glass: RGB) -> None:
    """From the side, without wheels; ``belt`` is y of the windows' lower edge, ``sill`` of the body's."""
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


def varied(b: Brush, variant: int) -> None:
    glass = ((70, 95, 115), (40, 48, 58), (150, 180, 200))[int(b.rng.integers(3))]
    tyre, rim = (28, 28, 30), b.grey()
    belt, sill = b.pick(0.34, 0.5), b.pick(0.76, 0.86)
    if variant == 5:
        return _front(b, belt, glass, tyre)
    _body(b, variant, belt, sill, glass)
    if b.chance(0.5):
        b.rect(0.02, belt + 0.12, 0.98, belt + 0.15, b.shade(b.pick(0.6, 1.3)))
    r = b.pick(0.08, 0.13)  # of a wheel, as a share of the width
    for x in (b.pick(0.14, 0.22), b.pick(0.76, 0.84)):
        b.oval(x - r, sill - 0.2, x + r, 1, tyre)
        b.oval(x - r * 0.5, sill - 0.1, x + r * 0.5, 0.92, rim)


KIND = Kind(fixed, varied, (1.6, 2.3))
