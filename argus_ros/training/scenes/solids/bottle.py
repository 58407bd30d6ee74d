"""Bottles, flasks and jugs as solids."""

from __future__ import annotations

from argus_ros.training.scenes.solids.kit import RUBBER, Family, Kit


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
    """A sports bottle: straight sides, a shoulder, a lid with a loop or a spout."""
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
    """A jug for detergents: an oval body, a handle, a large cap."""
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


FAMILY = Family((_wine_bottle, _water_bottle, _flask, _jug))
