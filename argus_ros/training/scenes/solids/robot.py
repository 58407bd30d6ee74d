"""Robots as solids."""

from __future__ import annotations

import numpy as np

from argus_ros.training.scenes.palette import RGB
from argus_ros.training.scenes.solids.kit import RUBBER, Family, Kit

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


FAMILY = Family((_humanoid, _tracked, _butler, _droid), 75.0)
