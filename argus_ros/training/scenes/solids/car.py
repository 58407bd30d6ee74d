"""Cars as solids, with their fronts towards x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from argus_ros.training.scenes.solids.kit import GLASS, Family, Kit


@dataclass(frozen=True)
class _Body:
    """The lower part of a car, on which the cabin stands."""

    long: float
    wide: float
    belt: float  #: height at which the windows begin


def _chassis(k: Kit, long: float, belt: float, wheel: float, wide: float = 1.72) -> _Body:
    """The body up to the windows, with wheels, lamps and bumpers; its front towards x."""
    sill, rim = wheel * 0.75, k.one_of(((190, 192, 196), (120, 122, 126), (70, 70, 74)))
    dark, half = (46, 46, 50), long / 2
    k.block((0, 0, sill), (long, wide, (belt - sill) * 0.62), top=1.02)
    k.block((0, 0, sill + (belt - sill) * 0.6), (long * 1.02, wide * 1.02, (belt - sill) * 0.4), top=0.95)
    k.block((0, 0, sill - 0.08), (long * 0.97, wide * 0.97, 0.12), dark)
    for x in (-half * 0.62, half * 0.62):
        for side in (-1, 1):
            k.drum((x, side * (wide / 2 - 0.2), wheel), wheel * 1.2, 0.22, (26, 26, 28), axis=(0, side, 0))
            k.wheel((x, side * (wide / 2 - 0.1), wheel), wheel, 0.26, rim)
    for side in (-1, 1):
        y, z = side * wide * 0.38, sill + (belt - sill) * 0.66
        k.ball((half * 1.0, y, z), (0.09, 0.2, 0.1), (250, 248, 230))
        k.box((-half * 1.01, y, z), (0.05, 0.28, 0.16), (170, 24, 26))
    k.box((half * 1.01, 0, sill + (belt - sill) * 0.55), (0.04, wide * 0.42, 0.16), dark)
    for end in (-1, 1):
        k.box((end * half * 1.0, 0, sill + 0.1), (0.14, wide * 0.96, 0.16), k.main if k.chance(0.5) else dark)
        k.box((end * (half + 0.08), 0, sill + 0.14), (0.03, 0.5, 0.1), (225, 225, 220))
    for x in (-0.1, half * 0.3):
        for side in (-1, 1):
            k.box((x - half * 0.02, side * wide * 0.51, belt - 0.14), (0.18, 0.03, 0.035), dark)
    return _Body(long, wide, belt)


def _cabin(
    k: Kit, b: _Body, tail: float, nose: float, tall: float, rear: float, front: float, pillars: int
) -> None:
    """Windows with a roof on pillars; the roof is shorter than the base by ``rear`` and ``front``."""
    glass, low, wide = k.one_of(GLASS), b.belt - 0.03, b.wide * 0.92
    base, roof = nose - tail, nose - tail - rear - front
    middle, shift = (tail + nose) / 2, (rear - front) / 2
    top_wide = wide * 0.84
    k.block((middle, 0, low), (base, top_wide, tall), glass, roof / base, shift=shift, shape="ridge")
    k.block((middle, 0, low), (base * 0.96, wide, tall), glass, max(roof / base, 0.84), shift=shift)
    x0, x1 = tail + rear, nose - front
    k.block(((x0 + x1) / 2, 0, low + tall - 0.03), (x1 - x0 + 0.1, top_wide + 0.1, 0.09), top=0.9)
    for side in (-1, 1):
        for share in np.linspace(0, 1, pillars):
            foot, head = tail + share * base, x0 + share * roof
            k.rod((foot, side * wide * 0.49, low), (head, side * top_wide * 0.5, low + tall), 0.045)
        k.ball((nose - front * 0.7, side * wide * 0.56, low + 0.12), (0.07, 0.1, 0.08))  # mirrors


def _saloon(k: Kit) -> None:
    b = _chassis(k, k.pick(4.1, 4.7), k.pick(0.86, 0.95), k.pick(0.3, 0.34))
    _cabin(k, b, -b.long * 0.38, b.long * 0.2, k.pick(0.48, 0.56), k.pick(0.5, 0.7), k.pick(0.6, 0.8), 3)


def _hatchback(k: Kit) -> None:
    b = _chassis(k, k.pick(3.4, 4.3), k.pick(0.88, 1.0), k.pick(0.3, 0.34))
    _cabin(
        k,
        b,
        -b.long * 0.485,
        b.long * 0.2,
        k.pick(0.52, 0.66),
        k.pick(0.15, 0.4),
        k.pick(0.5, 0.75),
        int(k.rng.integers(3, 5)),
    )


def _van(k: Kit) -> None:
    b = _chassis(k, k.pick(4.2, 5.0), k.pick(1.05, 1.2), k.pick(0.32, 0.36), 1.85)
    tall, nose = k.pick(0.75, 1.0), b.long * k.pick(0.36, 0.44)
    _cabin(k, b, -b.long * 0.1, nose, tall, 0.05, k.pick(0.45, 0.65), 2)
    k.block((-b.long * 0.22, 0, b.belt - 0.05), (b.long * 0.54, b.wide * 0.95, tall + 0.05), top=0.95)
    if k.chance(0.4):
        for side in (-1, 1):  # a window in the side
            k.box(
                (-b.long * 0.22, side * b.wide * 0.46, b.belt + tall * 0.5),
                (b.long * 0.36, 0.08, tall * 0.5),
                k.one_of(GLASS),
            )


def _pickup(k: Kit) -> None:
    b = _chassis(k, k.pick(4.8, 5.3), k.pick(0.95, 1.05), k.pick(0.38, 0.43), 1.85)
    _cabin(k, b, -b.long * 0.12, b.long * 0.2, k.pick(0.58, 0.68), 0.1, k.pick(0.5, 0.65), 3)
    k.box((-b.long * 0.31, 0, b.belt - 0.01), (b.long * 0.34, b.wide * 0.82, 0.03), (40, 40, 44))
    for side in (-1, 1):
        k.box((-b.long * 0.31, side * b.wide * 0.46, b.belt + 0.08), (b.long * 0.38, 0.12, 0.2))
    k.box((-b.long * 0.49, 0, b.belt + 0.08), (0.1, b.wide * 0.95, 0.2))


FAMILY = Family((_saloon, _hatchback, _van, _pickup))
