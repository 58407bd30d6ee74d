"""Traffic cones as solids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from argus_ros.training.scenes.palette import RGB
from argus_ros.training.scenes.solids.kit import RUBBER, Family, Kit


def _taper(
    k: Kit,
    low: float,
    high: float,
    bottom: float,
    top: float,
    bands: Sequence[tuple[float, float]],
    tone: RGB,
) -> None:
    """A truncated cone; ``bands`` start and end at shares of its height."""
    k.drum((0, 0, low), bottom, high - low, top=top / bottom)
    for start, end in bands:
        r0, r1 = (bottom + (top - bottom) * share for share in (start, end))
        k.drum((0, 0, low + (high - low) * start), r0 * 1.04, (high - low) * (end - start), tone, top=r1 / r0)


def _traffic_cone(k: Kit) -> None:
    wide, tall = k.pick(0.17, 0.22), k.pick(0.5, 0.75)
    k.block((0, 0, 0), (2.4 * wide, 2.4 * wide, 0.045), RUBBER if k.chance(0.4) else k.shade(0.85), 0.95)
    bands = [(0.35, 0.6)] if k.chance(0.5) else [(0.25, 0.42), (0.58, 0.74)]
    _taper(k, 0.04, tall, wide, 0.03, bands, k.contrast())


def _plain_cone(k: Kit) -> None:
    wide, tall = k.pick(0.18, 0.24), k.pick(0.4, 0.6)
    k.drum((0, 0, 0), wide * k.pick(1.15, 1.4), 0.04, top=0.95)
    bands = [(0.4, k.pick(0.5, 0.65))] if k.chance(0.5) else []
    _taper(k, 0.04, tall, wide, k.pick(0.01, 0.04), bands, k.other())


def _tall_cone(k: Kit) -> None:
    wide, tall = k.pick(0.17, 0.21), k.pick(0.75, 0.95)
    k.block((0, 0, 0), (2.8 * wide, 2.8 * wide, 0.06), RUBBER, 0.9)
    bands = [(b, b + k.pick(0.08, 0.14)) for b in np.linspace(0.25, 0.7, int(k.rng.integers(1, 4)))]
    _taper(k, 0.05, tall, wide, k.pick(0.03, 0.06), bands, k.contrast())
    k.ball((0, 0, tall), 0.04)


def _flared_cone(k: Kit) -> None:
    wide, tall = k.pick(0.2, 0.26), k.pick(0.6, 0.8)
    for i in range(8):  # a foot of eight corners
        angle = i * math.pi / 4
        k.ball((wide * math.cos(angle), wide * math.sin(angle), 0.02), (0.08, 0.08, 0.025), k.shade(0.7))
    k.drum((0, 0, 0), wide * 1.15, 0.05, k.shade(0.7))
    k.drum((0, 0, 0.05), wide, 0.12, top=0.7)
    _taper(k, 0.17, tall, wide * 0.7, 0.035, [(0.2, 0.4), (0.55, 0.75)], k.contrast())
    k.drum((0, 0, tall - 0.01), 0.04, 0.03, k.shade(0.7))


FAMILY = Family((_traffic_cone, _plain_cone, _tall_cone, _flared_cone))
