"""Cartons, crates and chests as solids."""

from __future__ import annotations

import math

import numpy as np

from argus_ros.training.scenes.solids.kit import UP, Family, Kit


def _carton(k: Kit) -> None:
    x, y, z = k.pick(0.45, 0.7), k.pick(0.35, 0.55), k.pick(0.3, 0.5)
    k.block((0, 0, 0), (x, y, z))
    tape = k.one_of(((206, 186, 150), k.shade(0.7), k.shade(1.4)))
    k.box((0, 0, z), (x * 1.01, 0.06, 0.006), tape)
    for end in (-1, 1):
        k.box((end * x / 2, 0, z - 0.06), (0.006, 0.06, 0.12), tape)
        if k.chance(0.85):  # a label
            k.box((k.pick(-0.25, 0.25) * x, end * y / 2, z * k.pick(0.3, 0.6)), (0.16, 0.006, 0.1), k.grey())
        k.box((0, end * y / 2, z - 0.012), (x, 0.004, 0.006), k.shade(0.6))
    k.box((0, 0, z), (0.006, y, 0.004), k.shade(0.6))


def _crate(k: Kit) -> None:
    x, y, z = k.pick(0.5, 0.7), k.pick(0.4, 0.6), k.pick(0.38, 0.55)
    k.block((0, 0, 0.01), (x - 0.04, y - 0.04, z - 0.02), k.shade(0.72))
    number, bar = int(k.rng.integers(3, 5)), 0.055
    for i in range(number):  # slats around, with gaps between
        k.box((0, 0, (i + 0.5) * z / number), (x, y, z / number * 0.84))
    for i in (-1, 1):
        for j in (-1, 1):
            k.box((i * (x - bar) / 2, j * (y - bar) / 2, z / 2), (bar + 0.03, bar + 0.03, z), k.shade(0.88))
    for i in range(number):
        k.box(((i + 0.5) * x / number - x / 2, 0, z), (x / number * 0.84, y, 0.02))


def _chest(k: Kit) -> None:
    """A plastic box with a lid."""
    x, y, z = k.pick(0.5, 0.7), k.pick(0.35, 0.5), k.pick(0.28, 0.45)
    k.block((0, 0, 0), (x * 0.88, y * 0.88, z), top=1.1)
    lid = k.shade(k.pick(0.6, 0.85)) if k.chance(0.5) else k.grey()
    k.block((0, 0, z - 0.02), (x * 1.03, y * 1.05, 0.05), lid, 0.95)
    for end in (-1, 1):
        k.box((end * x * 0.48, 0, z * 0.72), (0.06, 0.14, 0.03), lid)
        k.box((end * x * 0.25, -y * 0.49, z * 0.9), (0.05, 0.03, 0.09), k.grey())


def _open_carton(k: Kit) -> None:
    x, y, z = k.pick(0.45, 0.65), k.pick(0.4, 0.55), k.pick(0.28, 0.42)
    k.block((0, 0, 0), (x, y, 0.02))
    inside = k.shade(0.8)
    for end in (-1, 1):
        k.box((end * x / 2, 0, z / 2), (0.015, y, z))
        k.box((0, end * y / 2, z / 2), (x, 0.015, z))
        k.box((end * (x / 2 - 0.01), 0, z / 2), (0.006, y - 0.02, z - 0.01), inside)
        k.box((0, end * (y / 2 - 0.01), z / 2), (x - 0.02, 0.006, z - 0.01), inside)
        for way, deep, long in (((1, 0), x, y), ((0, 1), y, x)):  # flaps, bent outwards
            out = np.array((*way, 0.0)) * end
            tilt = k.pick(0.2, 1.3)
            slope = out * math.cos(tilt) + np.array(UP) * math.sin(tilt)
            side = np.cross(UP, out)
            frame = np.stack([side, np.cross(slope, side), slope], 1)
            k.block(out * deep / 2 + (0, 0, z), (long, 0.012, deep * 0.42), k.shade(1.1), frame=frame)


FAMILY = Family((_carton, _crate, _chest, _open_carton))
