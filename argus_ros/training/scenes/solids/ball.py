"""Balls as solids, with stripes, dots, bands or seams."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from argus_ros.training.scenes.palette import RGB
from argus_ros.training.scenes.solids.kit import RUBBER, Family, Kit, Vector, along


def _any_axis(k: Kit) -> Vector:
    return k.rng.normal(0, 1, 3) + 1e-3


def _belt(k: Kit, axis: Vector, low: float, high: float, tone: RGB) -> None:
    """A band around a ball of radius 0.3, between two heights along the axis in shares of the radius."""
    way = along(axis)[:, 2]
    heights = np.linspace(low, high, 2 + int(8 * (high - low)))
    for a, b in pairwise(heights):
        r0, r1 = (math.sqrt(max(1.015**2 - h * h, 1e-4)) for h in (a, b))
        k.drum((0, 0, 0.3) + way * a * 0.3, 0.3 * r0, 0.3 * (b - a), tone, r1 / r0, way)


def _striped_ball(k: Kit) -> None:
    k.ball((0, 0, 0.3), 0.3)
    if k.chance(0.75):
        half = k.pick(0.08, 0.35)
        _belt(k, _any_axis(k), -half, half, k.contrast() if k.chance(0.6) else k.other())


def _dotted_ball(k: Kit) -> None:
    k.ball((0, 0, 0.3), 0.3)
    tone, turn, spread = k.contrast(), along(_any_axis(k)), k.pick(0.09, 0.12)
    golden = (1 + math.sqrt(5)) / 2
    for a in (-1, 1):
        for b in (-golden, golden):
            for corner in ((0, a, b), (a, b, 0), (b, 0, a)):
                way = turn @ np.array(corner) / math.hypot(1, golden)
                k.ball(way * 0.27 + (0, 0, 0.3), (spread, spread, 0.035), tone, way)


def _banded_ball(k: Kit) -> None:
    """A band between two caps."""
    k.ball((0, 0, 0.3), 0.3)
    axis, tone = _any_axis(k), k.contrast()
    for end in (-1, 1):
        _belt(k, np.multiply(axis, end), k.pick(0.72, 0.88), 1.0, tone)
    half = k.pick(0.06, 0.2)
    _belt(k, axis, -half, half, k.other())


def _seamed_ball(k: Kit) -> None:
    k.ball((0, 0, 0.3), 0.3)
    turn, tone = along(_any_axis(k)), RUBBER if sum(k.main) > 200 else (200, 200, 196)
    for way in (turn[:, 0], turn[:, 1]):
        k.drum((0, 0, 0.3) - way * 0.006, 0.303, 0.012, tone, axis=way)
    for shift in (-0.15, 0.15):
        k.drum(
            turn[:, 0] * (shift - 0.006) + (0, 0, 0.3),
            math.sqrt(0.303**2 - shift**2),
            0.012,
            tone,
            axis=turn[:, 0],
        )


FAMILY = Family((_striped_ball, _dotted_ball, _banded_ball, _seamed_ball))
