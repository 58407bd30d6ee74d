"""Steel drums, casks and plastic drums as solids."""

from __future__ import annotations

from argus_ros.training.scenes.solids.kit import RUBBER, Family, Kit


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
    """A wooden barrel with hoops; its staves have the main colour."""
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
    if k.chance(0.6):  # a label around a part of it
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


FAMILY = Family((_steel_drum, _cask, _plastic_drum, _traffic_drum))
