"""The ten things as solids: simple shapes put together, in proportions that differ every time.

Metres, z up, the floor at 0, fronts towards -y (a car's towards x). The last model of each class is held out:
training never sees it. Nothing here needs the renderer; ``lit.py`` has that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from argus_ros.training.things import RGB, Palette

Spot = Sequence[float] | np.ndarray

UP = (0.0, 0.0, 1.0)
GLASS: tuple[RGB, ...] = ((52, 66, 80), (34, 40, 48), (110, 135, 152))
SKIN: tuple[RGB, ...] = ((236, 188, 150), (198, 140, 100), (120, 78, 52))
HAIR: tuple[RGB, ...] = ((40, 30, 24), (92, 60, 36), (170, 130, 70), (130, 128, 126))
CLOTH: tuple[RGB, ...] = ((48, 54, 76), (70, 66, 60), (36, 36, 40), (120, 108, 88), (88, 100, 116))
RUBBER: RGB = (34, 34, 36)
WOOD: tuple[RGB, ...] = ((150, 108, 66), (112, 76, 48), (186, 150, 104))


@dataclass(frozen=True)
class Part:
    """One shape: what lies in its unit cube, x and y and z from -1 to 1, times ``frame``, plus ``centre``.

    A ``drum`` and a ``block`` are as wide as their cube at the bottom and ``taper`` times that at the top; a
    ``ridge`` narrows along x only. A ``rod`` is a capsule: its frame's columns are radius, radius and half
    the length between the centres of its ends.
    """

    shape: str  #: ball, rod, drum, block or ridge
    centre: np.ndarray  #: (3,)
    frame: np.ndarray  #: (3, 3)
    colour: RGB
    taper: float = 1.0  #: at most 1


def along(axis: Spot) -> np.ndarray:
    """(3, 3) rotation that takes z to an axis, and x as near to level as can be."""
    z = np.asarray(axis, float) / np.linalg.norm(axis)
    x = np.cross((0, 1, 0) if abs(z[1]) < 0.9 else (1, 0, 0), z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], 1)


def turned(angle: float) -> np.ndarray:
    """(3, 3) rotation about z."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


class Kit(Palette):
    """Collects the parts of one thing; what gets no colour gets the main one."""

    def __init__(self, colour: RGB, rng: np.random.Generator) -> None:
        super().__init__(colour, rng)
        self.parts: list[Part] = []

    def one_of(self, colours: Sequence[RGB]) -> RGB:
        return colours[int(self.rng.integers(len(colours)))]

    def ball(self, centre: Spot, radius: float | Spot, colour: RGB | None = None, axis: Spot = UP) -> None:
        frame = along(axis) @ np.diag(np.broadcast_to(radius, 3))
        self.parts.append(Part("ball", np.asarray(centre, float), frame, colour or self.main))

    def rod(self, a: Spot, b: Spot, radius: float, colour: RGB | None = None) -> None:
        """Round bar with round ends, whose centres are ``a`` and ``b``."""
        p, q = np.asarray(a, float), np.asarray(b, float)
        length = max(float(np.linalg.norm(q - p)), 1e-6)
        frame = along((q - p) / length) @ np.diag((radius, radius, length / 2))
        self.parts.append(Part("rod", (p + q) / 2, frame, colour or self.main))

    def chain(self, points: Sequence[Spot], radius: float, colour: RGB | None = None) -> None:
        for a, b in pairwise(points):
            self.rod(a, b, radius, colour)

    def drum(
        self,
        base: Spot,
        radius: float | Spot,
        height: float,
        colour: RGB | None = None,
        top: float = 1.0,
        axis: Spot = UP,
    ) -> None:
        """Round, from the centre of its base along the axis; ``top`` times as wide there."""
        x, y = (float(r) for r in np.broadcast_to(radius, 2))
        self._stand("drum", base, (x, y, height / 2), colour, top, along(axis))

    def block(
        self,
        base: Spot,
        size: Spot,
        colour: RGB | None = None,
        top: float = 1.0,
        frame: np.ndarray | None = None,
        shift: float = 0.0,
        shape: str = "block",
    ) -> None:
        """Cornered, on the centre of its base; ``shift`` moves its top along x."""
        x, y, z = size
        frame = np.eye(3) if frame is None else frame
        lean = np.eye(3)
        lean[0, 2] = shift / z
        self._stand(shape, base, (x / 2, y / 2, z / 2), colour, top, frame @ lean)

    def box(
        self, centre: Spot, size: Spot, colour: RGB | None = None, frame: np.ndarray | None = None
    ) -> None:
        """Cornered, about its centre."""
        frame = np.eye(3) if frame is None else frame
        self.block(np.asarray(centre) - frame @ (0, 0, size[2] / 2), size, colour, frame=frame)

    def _stand(
        self, shape: str, base: Spot, half: Spot, colour: RGB | None, top: float, frame: np.ndarray
    ) -> None:
        centre = np.asarray(base, float) + frame @ (0, 0, half[2])
        scale = np.array(half, float)
        if top > 1:  # wider at the top: the same shape on its head
            frame = frame @ np.diag((1.0, -1.0, -1.0))
            scale[: 1 if shape == "ridge" else 2] *= top
            top = 1 / top
        self.parts.append(Part(shape, centre, frame @ np.diag(scale), colour or self.main, top))

    def wheel(self, centre: Spot, radius: float, width: float, rim: RGB, axis: Spot = (0, 1, 0)) -> None:
        """A tyre with a rim on both sides."""
        middle, way = np.asarray(centre, float), np.asarray(axis, float)
        self.drum(middle - way * width / 2, radius, width, RUBBER, axis=axis)
        self.drum(middle - way * width * 0.53, radius * 0.6, width * 1.06, rim, axis=axis)


# --- people -----------------------------------------------------------------------------------


def _legs(k: Kit, hip: float, stride: float, colour: RGB, shoes: RGB, thick: float) -> None:
    for side in (-1, 1):
        x, y = side * 0.1, side * stride
        knee = (x, -abs(y) * 0.35 + y * 0.45, hip * 0.54)
        k.rod((x, 0, hip), knee, thick, colour)
        k.rod(knee, (x, y, 0.1), thick * 0.8, colour)
        k.ball((x, y - 0.05, 0.05), (0.055, 0.13, 0.055), shoes)


def _trunk(k: Kit, hip: float, neck: float, wide: float, colour: RGB | None = None) -> None:
    k.drum((0, 0, hip - 0.06), (wide * 0.82, 0.12), neck - hip - 0.02, colour, top=1.2)
    k.rod((-wide * 0.8, 0, neck - 0.08), (wide * 0.8, 0, neck - 0.08), 0.085, colour)


def _head(k: Kit, neck: float, skin: RGB, hair: RGB, bald: bool = False) -> float:
    """Neck, face and hair; returns the height of the head's centre."""
    z = neck + 0.19
    k.rod((0, 0.01, neck - 0.05), (0, 0, z), 0.055, skin)
    k.ball((0, 0, z), (0.1, 0.115, 0.135), skin)
    k.ball((0, -0.115, z - 0.015), (0.018, 0.024, 0.026), skin)
    for x in (-0.04, 0.04):
        k.ball((x, -0.1, z + 0.025), (0.016, 0.014, 0.014), (40, 36, 36))
    if not bald:
        k.ball((0, 0.03, z + 0.04), (0.115, 0.115, 0.125), hair)
    return z


def _arm(
    k: Kit, side: int, points: Sequence[Spot], skin: RGB, short: bool, colour: RGB | None = None
) -> None:
    shoulder, elbow, hand = ((side * p[0], p[1], p[2]) for p in points)
    k.rod(shoulder, elbow, 0.06, colour)
    k.rod(elbow, hand, 0.045 if short else 0.052, skin if short else colour)
    k.ball(hand, 0.06, skin)


def _person(k: Kit, stride: float, swing: float, raised: bool = False) -> tuple[float, RGB, RGB]:
    """A figure in a shirt of the main colour; returns its head's height, skin and hair."""
    skin, hair = k.one_of(SKIN), k.one_of(HAIR)
    hip, wide = k.pick(0.8, 0.92), k.pick(0.17, 0.23)
    neck = hip + k.pick(0.52, 0.6)
    _legs(
        k, hip, stride, k.one_of(CLOTH), k.one_of((RUBBER, (90, 60, 40), (200, 200, 200))), k.pick(0.075, 0.1)
    )
    _trunk(k, hip, neck, wide)
    short = k.chance(0.5)
    for side in (-1, 1):
        y = -side * swing
        points = [
            (wide + 0.03, 0, neck - 0.09),
            (wide + 0.09, y * 0.4, neck - 0.37),
            (wide + 0.08, y - 0.08, hip - 0.04),
        ]
        if raised and side > 0:
            points = [
                points[0],
                (wide + 0.26, -0.05, neck + 0.04),
                (wide + k.pick(0.15, 0.4), -0.1, neck + 0.34),
            ]
        _arm(k, side, points, skin, short)
    return _head(k, neck, skin, hair, k.chance(0.1)), skin, hair


def _standing(k: Kit) -> None:
    head, _, hair = _person(k, k.pick(0, 0.05), k.pick(0, 0.08))
    if k.chance(0.3):  # long hair
        k.drum((0, 0.07, head - 0.24), (0.11, 0.06), 0.26, hair)


def _walking(k: Kit) -> None:
    head, _, _ = _person(k, k.pick(0.15, 0.36), k.pick(0.15, 0.35))
    if k.chance(0.4):
        k.box((0, 0.2, head - 0.42), (0.3, 0.16, 0.42), k.one_of(CLOTH))  # a rucksack
    if k.chance(0.4):
        cap = k.other()
        k.ball((0, 0, head + 0.06), (0.115, 0.125, 0.1), cap)
        k.box((0, -0.14, head + 0.06), (0.14, 0.12, 0.02), cap)


def _in_a_coat(k: Kit) -> None:
    skin, hair, cloth = k.one_of(SKIN), k.one_of(HAIR), k.one_of(CLOTH)
    hip, wide, low = k.pick(0.82, 0.92), k.pick(0.17, 0.22), k.pick(0.25, 0.55)
    neck = hip + 0.56
    _legs(k, hip, k.pick(0, 0.12), cloth if k.chance(0.5) else skin, RUBBER, 0.07)
    k.drum((0, 0, low), (wide * k.pick(1.05, 1.5), 0.19), hip + 0.12 - low, top=0.7)
    _trunk(k, hip, neck, wide)
    for side in (-1, 1):
        y = k.pick(-0.15, 0.1)
        _arm(
            k,
            side,
            [(wide + 0.03, 0, neck - 0.09), (wide + 0.1, y / 2, neck - 0.37), (wide + 0.1, y, hip - 0.04)],
            skin,
            False,
        )
    head = _head(k, neck, skin, hair)
    if k.chance(0.5):
        hat = k.other()
        k.drum((0, 0, head + 0.08), 0.2, 0.02, hat)
        k.drum((0, 0, head + 0.08), 0.115, 0.12, hat, top=0.85)
    else:
        k.drum((0, 0.07, head - 0.28), (0.12, 0.06), 0.3, hair)


def _waving(k: Kit) -> None:
    head, _, _ = _person(k, k.pick(0, 0.2), k.pick(0, 0.1), raised=True)
    helmet = k.one_of(((240, 236, 220), (240, 200, 40), (60, 60, 64)))
    k.ball((0, 0, head + 0.05), (0.125, 0.14, 0.12), helmet)
    k.drum((0, -0.02, head + 0.03), (0.14, 0.17), 0.02, helmet)


# --- cones, balls, boxes, barrels -------------------------------------------------------------


def _taper(
    k: Kit,
    low: float,
    high: float,
    bottom: float,
    top: float,
    bands: Sequence[tuple[float, float]],
    tone: RGB,
) -> None:
    """A round slope from one radius to another, with bands on it, at shares of its height."""
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


def _any_axis(k: Kit) -> Spot:
    return k.rng.normal(0, 1, 3) + 1e-3


def _belt(k: Kit, axis: Spot, low: float, high: float, tone: RGB) -> None:
    """A band round a ball of radius 0.3, between two heights along the axis in shares of the radius."""
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


def _steel_drum(k: Kit) -> None:
    r, z = k.pick(0.28, 0.32), k.pick(0.8, 0.95)
    k.drum((0, 0, 0), r, z)
    tone = k.shade(k.pick(0.7, 0.9)) if k.chance(0.5) else None
    for share in (0.0, 0.33, 0.66, 0.975):
        k.drum((0, 0, z * share), r * 1.045, z * 0.035, tone)
    k.drum((0, 0, z), r * 0.94, 0.005, k.shade(k.pick(0.7, 1.3)))
    k.drum((0.5 * r, 0.3 * r, z), 0.04, 0.02, k.grey())
    k.drum((-0.55 * r, -0.2 * r, z), 0.025, 0.02, k.grey())
    if k.chance(0.4):
        k.drum((0, 0, z * 0.4), r * 1.02, z * 0.22, k.other())


def _cask(k: Kit) -> None:
    """A wooden one with hoops; its staves are of the main colour."""
    r, z, belly = k.pick(0.26, 0.32), k.pick(0.75, 0.9), k.pick(1.15, 1.25)
    hoop = k.one_of(((70, 70, 74), (120, 122, 126), (52, 46, 42)))
    radii = [r, r * (1 + (belly - 1) * 0.75), r * belly, r * (1 + (belly - 1) * 0.75), r]
    levels = [0.0, 0.25 * z, 0.5 * z, 0.75 * z, z]
    for a, b, r0, r1 in zip(levels, levels[1:], radii, radii[1:], strict=False):
        k.drum((0, 0, a), r0, b - a, top=r1 / r0)
    for share in (0.02, 0.2, 0.3, 0.64, 0.74, 0.92):
        middle = r * (belly - (belly - 1) * (2 * share + 0.06 - 1) ** 2)
        k.drum((0, 0, share * z), middle * 1.015, 0.055 * z, hoop)
    k.drum((0, 0, z - 0.01), r * 0.92, 0.015, k.shade(0.75))


def _plastic_drum(k: Kit) -> None:
    r, z = k.pick(0.26, 0.31), k.pick(0.75, 0.95)
    k.drum((0, 0, 0), r * 0.95, 0.06 * z, top=1.05)
    k.drum((0, 0, 0.06 * z), r, 0.72 * z)
    k.drum((0, 0, 0.78 * z), r, 0.12 * z, top=0.85)
    lid = RUBBER if k.chance(0.6) else k.other()
    k.drum((0, 0, 0.88 * z), r * 0.92, 0.1 * z, lid)
    for share in (0.2, 0.5):
        k.drum((0, 0, share * z), r * 1.03, 0.03 * z, k.shade(0.85))
    if k.chance(0.6):  # a label round a part of it
        k.block((0, -0.1 * r, 0.3 * z), (1.0 * r, 1.84 * r, 0.18 * z), k.grey())


def _traffic_drum(k: Kit) -> None:
    r, z, tone = k.pick(0.26, 0.3), k.pick(0.85, 1.0), k.contrast()
    k.drum((0, 0, 0), r * 1.35, 0.07, RUBBER, top=0.9)
    for i in range(4):
        wide = r * (1.06 - 0.06 * i)
        k.drum((0, 0, 0.06 + i * (z - 0.1) / 4), wide, (z - 0.1) / 4, top=0.95)
        k.drum((0, 0, 0.06 + (i + 0.25) * (z - 0.1) / 4), wide * 1.01, (z - 0.1) / 9, tone, top=0.95)
    k.drum((0, 0, z - 0.06), r * 0.85, 0.04, k.shade(0.8), top=0.9)
    k.chain(
        [(-0.1, 0, z - 0.04), (-0.08, 0, z + 0.05), (0.08, 0, z + 0.05), (0.1, 0, z - 0.04)],
        0.02,
        k.shade(0.8),
    )


# --- chairs and doors -------------------------------------------------------------------------


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
    """A garden chair: arms that go down into the legs, a back of slats that leans."""
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
    """One on each side of a leaf that lies at y = 0."""
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
    """A grid of raised panels on both sides of a leaf that is 0.05 thick."""
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


# --- bottles ----------------------------------------------------------------------------------


def _label(k: Kit, r: float, low: float, high: float) -> None:
    tone = k.other() if k.chance(0.5) else (236, 232, 220)
    k.drum((0, 0, low), r * 1.02, high - low, tone)
    if k.chance(0.5):
        middle = (low + high) / 2
        k.drum((0, 0, middle - (high - low) * 0.12), r * 1.03, (high - low) * 0.24, k.other())


def _wine_bottle(k: Kit) -> None:
    r, body, tall = k.pick(0.036, 0.042), k.pick(0.15, 0.19), k.pick(0.28, 0.32)
    k.drum((0, 0, 0), r, body)
    k.ball((0, 0, body), (r, r, r * 1.1))
    k.drum((0, 0, body + r * 0.45), r * 0.8, r * 1.3, top=0.45)
    k.drum((0, 0, body), r * 0.37, tall - body)
    k.drum((0, 0, tall - 0.045), r * 0.43, 0.05, k.other())
    if k.chance(0.8):
        _label(k, r, body * k.pick(0.2, 0.3), body * k.pick(0.65, 0.85))


def _water_bottle(k: Kit) -> None:
    r, z = k.pick(0.033, 0.042), k.pick(0.2, 0.25)
    waist = k.pick(0.8, 0.95)
    for low, high, r0, r1 in (
        (0, 0.3, 1, 1),
        (0.3, 0.4, 1, waist),
        (0.4, 0.5, waist, 1),
        (0.5, 0.72, 1, 1),
        (0.72, 0.88, 1, 0.4),
    ):
        k.drum((0, 0, low * z), r0 * r, (high - low) * z, top=r1 / r0)
    k.drum((0, 0, 0.86 * z), r * 0.38, 0.08 * z)
    k.drum(
        (0, 0, 0.9 * z), r * 0.45, 0.1 * z, k.one_of(((240, 240, 240), (40, 70, 170), (200, 50, 40), RUBBER))
    )
    if k.chance(0.8):
        _label(k, r, 0.52 * z, 0.7 * z)
    else:
        for share in (0.08, 0.16, 0.24):
            k.drum((0, 0, share * z), r * 1.03, 0.02 * z, k.shade(1.15))


def _flask(k: Kit) -> None:
    """For sports: straight, a shoulder, a lid with a loop or a spout."""
    r, z = k.pick(0.034, 0.042), k.pick(0.19, 0.25)
    dark = k.grey()
    k.drum((0, 0, 0), r, 0.78 * z)
    k.drum((0, 0, 0.78 * z), r, 0.08 * z, top=0.7)
    k.drum((0, 0, 0.85 * z), r * 0.72, 0.09 * z, dark, top=0.95)
    if k.chance(0.5):
        k.chain(
            [
                (-r * 0.5, 0, 0.93 * z),
                (-r * 0.45, 0, 1.02 * z),
                (r * 0.45, 0, 1.02 * z),
                (r * 0.5, 0, 0.93 * z),
            ],
            0.005,
            dark,
        )
    else:
        k.drum((0, 0, 0.93 * z), r * 0.3, 0.07 * z, k.grey(), top=0.8)
    k.drum((0, 0, 0), r * 1.01, 0.04 * z, dark)
    if k.chance(0.6):
        k.drum((0, 0, k.pick(0.2, 0.5) * z), r * 1.02, k.pick(0.03, 0.2) * z, k.other())


def _jug(k: Kit) -> None:
    """As for detergents: an oval body, a handle, a large cap."""
    r, z = k.pick(0.05, 0.06), k.pick(0.22, 0.27)
    k.drum((0, 0, 0), (r, r * 0.62), 0.55 * z)
    k.drum((0, 0, 0.55 * z), (r, r * 0.62), 0.3 * z, top=0.4)
    k.drum((-r * 0.1, 0, 0.8 * z), r * 0.36, 0.09 * z)
    k.drum(
        (-r * 0.1, 0, 0.87 * z),
        r * 0.44,
        0.13 * z,
        k.one_of(((240, 240, 240), (40, 70, 170), (200, 50, 40), RUBBER)),
        top=0.9,
    )
    k.chain([(r * 0.3, 0, 0.82 * z), (r * 0.85, 0, 0.8 * z), (r * 0.95, 0, 0.55 * z)], r * 0.13)
    k.drum((0, 0, 0.1 * z), (r * 1.02, r * 0.64), 0.34 * z, (236, 232, 220) if k.chance(0.6) else k.other())


# --- robots -----------------------------------------------------------------------------------

EYES: tuple[RGB, ...] = ((40, 220, 235), (250, 90, 60), (120, 250, 120), (245, 245, 245))


def _face(k: Kit, z: float, wide: float, front: float) -> None:
    """A dark screen with two eyes or one visor, towards -y."""
    eye = k.one_of(EYES)
    k.box((0, front, z), (wide * 1.5, 0.02, wide * 0.8), (28, 30, 34))
    if k.chance(0.6):
        for x in (-0.4, 0.4):
            k.ball((x * wide, front - 0.012, z), (wide * 0.2, 0.012, wide * 0.2), eye)
    else:
        k.box((0, front - 0.008, z), (wide * 1.2, 0.02, wide * 0.25), eye)


def _aerial(k: Kit, z: float, tone: RGB) -> None:
    k.rod((0, 0, z), (0, 0, z + 0.12), 0.012, tone)
    k.ball((0, 0, z + 0.13), 0.03, k.one_of(EYES))


def _humanoid(k: Kit) -> None:
    metal, dark = k.one_of(((150, 154, 160), (90, 94, 100), (205, 206, 208))), (50, 52, 56)
    hip, wide = k.pick(0.4, 0.55), k.pick(0.2, 0.26)
    neck = hip + k.pick(0.4, 0.5)
    for side in (-1, 1):
        k.rod((side * wide * 0.55, 0, hip), (side * wide * 0.6, 0, 0.1), 0.055, metal)
        k.ball((side * wide * 0.58, 0, hip * 0.55), 0.075, dark)
        k.block((side * wide * 0.6, -0.03, 0), (0.15, 0.26, 0.1), dark, 0.85)
        elbow = (side * (wide + 0.13), k.pick(-0.1, 0.05), neck - 0.3)
        hand = (side * (wide + k.pick(0.1, 0.2)), -k.pick(0.05, 0.25), neck - k.pick(0.35, 0.55))
        k.ball((side * (wide + 0.05), 0, neck - 0.09), 0.085, dark)
        k.rod((side * (wide + 0.06), 0, neck - 0.09), elbow, 0.045, metal)
        k.rod(elbow, hand, 0.045, metal)
        k.ball(hand, 0.07, dark)
    k.block((0, 0, hip - 0.04), (1.7 * wide, 0.26, neck - hip + 0.04), top=1.2)
    k.box((0, -0.14, neck - 0.2), (wide * 0.8, 0.03, 0.12), k.other())
    k.drum((0, 0, neck), 0.06, 0.07, dark)
    tall, head = k.pick(0.24, 0.3), k.pick(0.15, 0.18)
    k.block((0, 0, neck + 0.05), (2 * head, 0.26, tall), None if k.chance(0.6) else metal, 0.95)
    _face(k, neck + 0.05 + tall / 2, head, -0.14)
    if k.chance(0.6):
        _aerial(k, neck + 0.05 + tall, metal)


def _tracked(k: Kit) -> None:
    metal, dark = k.one_of(((150, 154, 160), (90, 94, 100))), (44, 44, 48)
    long, r = k.pick(0.3, 0.4), k.pick(0.12, 0.16)
    for side in (-1, 1):
        x = side * 0.3
        k.box((x, 0, r), (0.16, 2 * long - 2 * r, 2 * r), RUBBER)
        for end in (-1, 1):
            k.drum((x - 0.08, end * (long - r), r), r, 0.16, RUBBER, axis=(1, 0, 0))
        for spot in np.linspace(-1, 1, 4):
            k.drum((x - 0.085, spot * (long - r), r), r * 0.55, 0.17, metal, axis=(1, 0, 0))
    tall = k.pick(0.3, 0.42)
    k.block((0, 0, r), (0.46, 1.4 * long, tall), top=k.pick(0.7, 1.0))
    k.box((0, -0.62 * long, r + tall * 0.45), (0.24, 0.2 * long, tall * 0.4), k.other())
    top = r + tall
    k.rod((0, 0, top), (0, 0, top + 0.18), 0.04, metal)
    head = k.pick(0.16, 0.2)
    k.box((0, 0, top + 0.26), (2 * head, 0.2, 0.2), k.main if k.chance(0.5) else metal)
    for x in (-0.5, 0.5):  # two eyes on stalks, like binoculars
        k.drum((x * head, -0.08, top + 0.26), 0.075, 0.08, dark, axis=(0, -1, 0))
        k.ball((x * head, -0.155, top + 0.26), (0.05, 0.03, 0.05), k.one_of(EYES[:1]))
    for side in (-1, 1):
        k.chain(
            [(side * 0.25, 0, top - 0.08), (side * 0.33, -0.2, top - 0.05), (side * 0.25, -0.38, top - 0.12)],
            0.035,
            metal,
        )
        k.ball((side * 0.25, -0.4, top - 0.12), 0.055, dark)


def _butler(k: Kit) -> None:
    """A pillar on a wheeled base with a screen for a face."""
    metal, r = k.one_of(((190, 192, 196), (80, 82, 88), (232, 232, 230))), k.pick(0.24, 0.3)
    for side in (-1, 1):
        k.wheel((side * r * 0.85, 0, 0.09), 0.09, 0.05, metal, (1, 0, 0))
    k.drum((0, 0, 0.05), r, 0.16, k.shade(0.7), top=0.9)
    tall = k.pick(0.6, 0.8)
    k.drum((0, 0, 0.2), r * 0.82, tall, top=k.pick(0.6, 0.85))
    k.drum((0, 0, 0.2 + tall * k.pick(0.3, 0.7)), r * 0.8, 0.05, k.other())
    top = 0.2 + tall
    k.drum((0, 0, top), 0.05, 0.1, metal)
    head = k.pick(0.17, 0.22)
    if k.chance(0.5):
        k.ball((0, 0, top + 0.22), (head * 1.1, head, head * 0.95))
        _face(k, top + 0.23, head * 0.9, -head * 0.88)
    else:
        k.box((0, 0, top + 0.22), (2 * head, 0.12, 0.26))
        _face(k, top + 0.22, head, -0.065)
    for side in (-1, 1):
        k.chain(
            [
                (side * r * 0.75, 0, top - 0.12),
                (side * (r * 0.75 + 0.14), 0, top - 0.3),
                (side * (r * 0.75 + 0.1), -0.2, top - 0.36),
            ],
            0.035,
            metal,
        )
        k.ball((side * (r * 0.75 + 0.1), -0.22, top - 0.36), 0.05, (50, 52, 56))


def _droid(k: Kit) -> None:
    """A round body on three feet under a dome."""
    metal, dark, r = k.one_of(((200, 202, 206), (150, 154, 160))), (48, 50, 54), k.pick(0.24, 0.28)
    for side in (-1, 1):
        k.box((side * (r + 0.06), 0.03, 0.42), (0.09, 0.14, 0.5), metal)
        k.ball((side * (r + 0.06), 0.03, 0.66), (0.07, 0.12, 0.12), metal)
        k.block((side * (r + 0.06), 0.0, 0), (0.15, 0.34, 0.18), dark, 0.7)
    k.block((0, -0.12, 0), (0.16, 0.26, 0.15), dark, 0.8)
    tall = k.pick(0.5, 0.6)
    k.drum((0, 0, 0.15), r * 0.85, 0.07, dark, top=1.15)
    k.drum((0, 0, 0.22), r, tall)
    top = 0.22 + tall
    for height in (0.1, 0.22, 0.34):
        k.box((0, -r * 0.97, 0.25 + height), (r * 0.9, 0.05, 0.07), k.other())
    k.drum((0, 0, top), r * 1.02, 0.04, metal)
    k.ball((0, 0, top + 0.03), (r, r, r * 0.95), metal if k.chance(0.4) else k.shade(1.15))
    k.ball((0, -r * 0.8, top + 0.13), (0.075, 0.06, 0.07), (24, 24, 28))
    k.ball((0, -r * 0.8 - 0.045, top + 0.135), (0.035, 0.025, 0.035), k.one_of(EYES))
    _aerial(k, top + r * 0.9, metal)


# --- cars -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Body:
    """What a cabin stands on."""

    long: float
    wide: float
    belt: float  #: height at which the windows begin


def _chassis(k: Kit, long: float, belt: float, wheel: float, wide: float = 1.72) -> _Body:
    """The body up to the windows, with wheels, lamps and bumpers; its nose towards x."""
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
    """Windows with a roof on pillars; ``rear`` and ``front`` are how far the roof stays behind the base."""
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


# --- all of them ------------------------------------------------------------------------------

Model = Callable[[Kit], None]


@dataclass(frozen=True)
class Family:
    """The models of a class, and from how far aside of its front, in degrees, it may be seen."""

    models: tuple[Model, ...]  #: the last one is held out
    turn: float = 180.0


FAMILIES: dict[str, Family] = {
    "person": Family((_standing, _walking, _in_a_coat, _waving)),
    "cone": Family((_traffic_cone, _plain_cone, _tall_cone, _flared_cone)),
    "ball": Family((_striped_ball, _dotted_ball, _banded_ball, _seamed_ball)),
    "box": Family((_carton, _crate, _chest, _open_carton)),
    "barrel": Family((_steel_drum, _cask, _plastic_drum, _traffic_drum)),
    "chair": Family((_plain_chair, _slatted_chair, _office_chair, _armchair)),
    "door": Family((_panelled_door, _glazed_door, _double_door, _planked_door), 50.0),
    "bottle": Family((_wine_bottle, _water_bottle, _flask, _jug)),
    "robot": Family((_humanoid, _tracked, _butler, _droid), 75.0),
    "car": Family((_saloon, _hatchback, _van, _pickup)),
}


def models_of(label: str, split: str) -> tuple[Model, ...]:
    """The models that a split of the scenes may show."""
    models = FAMILIES[label].models
    return models[-1:] if split == "heldout" else models[:-1]


def build(model: Model, colour: RGB, rng: np.random.Generator) -> list[Part]:
    """One thing in a colour, with proportions of its own."""
    kit = Kit(colour, rng)
    model(kit)
    return kit.parts


def name_of(model: Model) -> str:
    return model.__name__.strip("_").replace("_", " ")
