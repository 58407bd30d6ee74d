"""Chairs as solids."""

from __future__ import annotations

import math

import numpy as np

from argus_ros.training.scenes.palette import RGB
from argus_ros.training.scenes.solids.kit import RUBBER, Family, Kit, along


def _four_legs(k: Kit, x: float, y: float, seat: float, thick: float, tone: RGB | None, splay: float) -> None:
    for i in (-1, 1):
        for j in (-1, 1):
            foot = (i * x * (0.44 + splay), j * y * (0.44 + splay), thick / 2)
            k.rod((i * x * 0.44, j * y * 0.44, seat), foot, thick / 2, tone)


def _plain_chair(k: Kit) -> None:
    x, y, seat, top = k.pick(0.4, 0.48), k.pick(0.4, 0.46), k.pick(0.42, 0.48), k.pick(0.82, 0.98)
    tone = k.one_of((k.shade(0.75), k.main, k.grey()))
    _four_legs(k, x, y, seat, k.pick(0.035, 0.055), tone, k.pick(0, 0.08))
    k.box((0, 0, seat), (x, y, 0.05))
    for i in (-1, 1):
        k.rod((i * x * 0.44, y * 0.45, seat), (i * x * 0.44, y * 0.52, top - 0.02), 0.022, tone)
    low = k.pick(0.55, 0.68)
    k.box((0, y * 0.48, (low + top) / 2), (x, 0.035, top - low))


def _slatted_chair(k: Kit) -> None:
    x, y, seat, top = k.pick(0.4, 0.46), k.pick(0.4, 0.46), k.pick(0.43, 0.48), k.pick(0.88, 1.05)
    _four_legs(k, x, y, seat, 0.045, None, 0)
    k.box((0, 0, seat), (x, y, 0.04), k.shade(k.pick(0.8, 1.2)))
    for i in (-1, 1):
        k.box((i * x * 0.46, y * 0.46, (seat + top) / 2), (0.045, 0.045, top - seat))
        k.rod((i * x * 0.44, -y * 0.44, 0.2), (i * x * 0.44, y * 0.44, 0.2), 0.014)
    if k.chance(0.5):
        for z in np.linspace(seat + 0.16, top - 0.04, int(k.rng.integers(2, 4))):
            k.box((0, y * 0.46, z), (x * 0.92, 0.025, 0.07))
    else:
        k.box((0, y * 0.46, top - 0.04), (x, 0.03, 0.08))
        for slat in np.linspace(-0.3, 0.3, int(k.rng.integers(3, 6))):
            k.box((slat * x, y * 0.46, (seat + top) / 2), (0.03, 0.02, top - seat - 0.06))


def _office_chair(k: Kit) -> None:
    seat, top, dark = (
        k.pick(0.45, 0.52),
        k.pick(0.95, 1.15),
        k.one_of((RUBBER, (60, 60, 64), (170, 172, 176))),
    )
    for i in range(5):
        angle = 2 * math.pi * i / 5 + 0.3
        end = (0.28 * math.cos(angle), 0.28 * math.sin(angle), 0.08)
        k.rod((0, 0, 0.12), end, 0.024, dark)
        k.ball((end[0], end[1], 0.035), 0.035, RUBBER)
    k.rod((0, 0, 0.1), (0, 0, seat), 0.03, dark)
    k.ball((0, 0, seat), (0.25, 0.24, 0.06))
    k.box((0, 0.02, seat - 0.01), (0.4, 0.36, 0.07))
    k.chain([(0, 0.1, seat - 0.04), (0, 0.27, seat), (0, 0.27, seat + 0.3)], 0.025, dark)
    if k.chance(0.6):
        k.ball((0, 0.24, (seat + top) / 2 + 0.05), (0.23, 0.05, (top - seat) / 2 - 0.05))
    else:
        k.box((0, 0.24, (seat + top) / 2 + 0.05), (0.42, 0.06, top - seat - 0.12))
    if k.chance(0.6):
        for i in (-1, 1):
            k.chain([(i * 0.22, 0.05, seat), (i * 0.28, 0.05, seat + 0.2)], 0.018, dark)
            k.box((i * 0.28, 0, seat + 0.21), (0.06, 0.26, 0.03), dark)


def _armchair(k: Kit) -> None:
    """A garden chair: arms that continue as legs, and a reclined back of slats."""
    x, y, seat, top = k.pick(0.46, 0.54), k.pick(0.44, 0.5), k.pick(0.38, 0.44), k.pick(0.85, 1.0)
    arm = seat + 0.2
    for i in (-1, 1):
        k.chain(
            [(i * x * 0.5, -y * 0.5, 0.02), (i * x * 0.5, -y * 0.45, arm), (i * x * 0.48, y * 0.5, arm)],
            0.025,
        )
        k.rod((i * x * 0.48, y * 0.6, 0.02), (i * x * 0.46, y * 0.4, seat), 0.025)
        k.box((i * x * 0.5, -y * 0.02, arm + 0.02), (0.07, y, 0.025))
        k.rod((i * x * 0.46, y * 0.4, seat), (i * x * 0.44, y * 0.64, top), 0.025)
    for slat in np.linspace(-0.42, 0.34, 5):
        k.box((0, slat * y, seat), (x * 0.94, y * 0.15, 0.025), k.shade(0.95))
    back = along((0, y * 0.24, top - seat))
    for slat in np.linspace(-0.36, 0.36, 5):
        k.block((slat * x, y * 0.4, seat), (x * 0.13, 0.02, top - seat), frame=back)
    k.rod((-x * 0.44, y * 0.64, top), (x * 0.44, y * 0.64, top), 0.028)


FAMILY = Family((_plain_chair, _slatted_chair, _office_chair, _armchair))
