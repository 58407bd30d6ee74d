"""Doors as solids, in their frames."""

from __future__ import annotations

import math

from argus_ros.training.scenes.palette import RGB
from argus_ros.training.scenes.solids.kit import GLASS, Family, Kit, along


def _frame(k: Kit) -> tuple[float, float]:
    """Jambs and lintel; returns the opening's width and height."""
    x, z, bar, deep = k.pick(0.8, 0.98), k.pick(1.95, 2.15), k.pick(0.06, 0.11), k.pick(0.12, 0.2)
    tone = k.one_of((k.shade(0.65), k.shade(1.35), k.grey(), (228, 226, 220)))
    for i in (-1, 1):
        k.box((i * (x + bar) / 2, 0, z / 2), (bar, deep, z), tone)
    k.box((0, 0, z + bar / 2), (x + 2 * bar, deep, bar), tone)
    k.box((0, 0, 0.01), (x, deep, 0.02), k.grey())
    return x, z


def _handles(k: Kit, x: float, z: float = 1.0) -> None:
    """A handle on each side of a leaf at y = 0."""
    metal = k.one_of(((200, 180, 100), (190, 192, 196), (60, 60, 62)))
    way = -1 if x > 0 else 1
    knob = k.chance(0.4)
    for side in (-1, 1):
        k.box((x, side * 0.03, z), (0.045, 0.012, 0.2), metal)
        k.rod((x, side * 0.03, z), (x, side * 0.075, z), 0.014, metal)
        if knob:
            k.ball((x, side * 0.085, z), 0.036, metal)
        else:
            k.rod((x, side * 0.08, z), (x + way * 0.12, side * 0.08, z), 0.016, metal)


def _panels(k: Kit, x: float, z: float, columns: int, rows: int, tone: RGB, thick: float = 0.062) -> None:
    """A grid of raised panels on both sides of a leaf 0.05 thick."""
    for i in range(columns):
        for j in range(rows):
            centre = ((i + 0.5) * x / columns - x / 2, 0, (j + 0.5) * z / rows)
            k.box(centre, (x / columns - 0.16, thick, z / rows - 0.16), tone)


def _panelled_door(k: Kit) -> None:
    x, z = _frame(k)
    k.box((0, 0, z / 2), (x, 0.05, z))
    tone = k.shade(k.pick(0.8, 0.92)) if k.chance(0.6) else k.shade(1.2)
    if k.chance(0.85):
        _panels(k, x, z, int(k.rng.integers(1, 3)), int(k.rng.integers(2, 4)), tone)
    _handles(k, x * (0.42 if k.chance(0.5) else -0.42))


def _glazed_door(k: Kit) -> None:
    x, z = _frame(k)
    k.box((0, 0, z / 2), (x, 0.05, z))
    w, tall, glass = x * k.pick(0.3, 0.62), z * k.pick(0.2, 0.42), k.one_of(GLASS)
    middle = z * 0.93 - tall / 2 - 0.04
    k.box((0, 0, middle), (w + 0.06, 0.062, tall + 0.06), k.shade(0.75))
    k.box((0, 0, middle), (w, 0.07, tall), glass)
    if k.chance(0.4):
        k.box((0, 0, middle), (0.03, 0.076, tall), k.shade(0.75))
        k.box((0, 0, middle), (w, 0.076, 0.03), k.shade(0.75))
    if k.chance(0.5):
        k.box((0, 0, 0.14), (x * 0.94, 0.058, 0.22), (176, 178, 182))  # a kick plate
    else:
        k.box((0, 0, z * 0.22), (x - 0.2, 0.062, z * 0.26), k.shade(0.85))
    _handles(k, x * (0.42 if k.chance(0.5) else -0.42))


def _double_door(k: Kit) -> None:
    x, z = _frame(k)
    gap, glass = 0.012, k.one_of(GLASS)
    for i in (-1, 1):
        k.box((i * x / 4, 0, z / 2), (x / 2 - gap, 0.05, z))
        if k.chance(0.7):
            k.box(
                (i * x / 4, 0, z * 0.7), (x * 0.26, 0.062, z * 0.4), glass if k.chance(0.5) else k.shade(0.85)
            )
        k.box((i * x / 4, 0, z * 0.22), (x * 0.26, 0.062, z * 0.28), k.shade(0.85))
        _handles(k, i * x * 0.06)


def _planked_door(k: Kit) -> None:
    x, z = _frame(k)
    number = int(k.rng.integers(4, 7))
    k.box((0, 0, z / 2), (x, 0.03, z), k.shade(0.55))
    for i in range(number):
        tone = k.shade(k.pick(0.85, 1.1)) if i % 2 else k.main
        k.box(((i + 0.5) * x / number - x / 2, 0, z / 2), (x / number - 0.014, 0.05, z), tone)
    brace = k.shade(0.78)
    for height in (0.3, z - 0.3):
        k.box((0, 0, height), (x * 0.96, 0.075, 0.13), brace)
    length = math.hypot(x * 0.8, z - 0.7)
    k.box((0, 0, z / 2), (0.12, 0.07, length), brace, along((x * 0.8, 0, z - 0.7)))
    _handles(k, x * 0.42)


FAMILY = Family((_panelled_door, _glazed_door, _double_door, _planked_door), 50.0)
