"""People as solids: standing, walking, in a coat, waving."""

from __future__ import annotations

from collections.abc import Sequence

from argus_ros.training.scenes.palette import RGB
from argus_ros.training.scenes.solids.kit import RUBBER, Family, Kit, Vector

SKIN: tuple[RGB, ...] = ((236, 188, 150), (198, 140, 100), (120, 78, 52))
HAIR: tuple[RGB, ...] = ((40, 30, 24), (92, 60, 36), (170, 130, 70), (130, 128, 126))
CLOTH: tuple[RGB, ...] = ((48, 54, 76), (70, 66, 60), (36, 36, 40), (120, 108, 88), (88, 100, 116))


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
    k: Kit, side: int, points: Sequence[Vector], skin: RGB, short: bool, colour: RGB | None = None
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


FAMILY = Family((_standing, _walking, _in_a_coat, _waving))
