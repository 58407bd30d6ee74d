"""Depth of simple solids by casting a ray through every pixel, with the truth: for tests of positions.

The optical frame: x to the right, y down, z forward, metres. The camera stands one metre above a floor, and a
wall stands behind everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CAMERA_HEIGHT = 1.0


@dataclass(frozen=True)
class Ball:
    centre: tuple[float, float, float]
    radius: float

    def hit(self, rays: np.ndarray) -> np.ndarray:
        """(h, w) factors of the rays at which they enter, inf where they miss."""
        centre = np.asarray(self.centre)
        a, b = (rays**2).sum(-1), rays @ centre
        inside = b**2 - a * (centre @ centre - self.radius**2)
        return np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)


@dataclass(frozen=True)
class Block:
    """With sides along the axes."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def hit(self, rays: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = np.asarray(self.low) / rays, np.asarray(self.high) / rays
        enter, leave = np.fmin(a, b).max(-1), np.fmax(a, b).min(-1)
        return np.where((enter <= leave) & (enter > 0), enter, np.inf)


@dataclass(frozen=True)
class Column:
    """A standing cylinder without its ends."""

    x: float
    z: float
    radius: float
    top: float
    bottom: float

    def hit(self, rays: np.ndarray) -> np.ndarray:
        flat, centre = rays[..., [0, 2]], np.array([self.x, self.z])
        a, b = (flat**2).sum(-1), flat @ centre
        inside = b**2 - a * (centre @ centre - self.radius**2)
        t = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
        with np.errstate(invalid="ignore"):
            y = rays[..., 1] * t
        return np.where((y > self.top) & (y < self.bottom), t, np.inf)


Solid = Ball | Block | Column


@dataclass(frozen=True)
class SceneObject:
    """What one box is about: solids, and the middle of them all."""

    name: str
    solids: tuple[Solid, ...]
    centre: tuple[float, float, float]


def ball(x: float, z: float, radius: float) -> SceneObject:
    centre = (x, CAMERA_HEIGHT - radius, z)
    return SceneObject("ball", (Ball(centre, radius),), centre)


def crate(x: float, z: float, side: float) -> SceneObject:
    half, floor = side / 2, CAMERA_HEIGHT
    solid = Block((x - half, floor - side, z - half), (x + half, floor, z + half))
    return SceneObject("crate", (solid,), (x, floor - half, z))


def post(x: float, z: float, radius: float, height: float) -> SceneObject:
    column = Column(x, z, radius, CAMERA_HEIGHT - height, CAMERA_HEIGHT)
    return SceneObject("post", (column,), (x, CAMERA_HEIGHT - height / 2, z))


def person(x: float, z: float) -> SceneObject:
    """Two legs apart, a trunk, arms stretched to the sides and a head: half of the box is background."""
    floor = CAMERA_HEIGHT
    legs = (Column(x - 0.15, z, 0.08, floor - 0.9, floor), Column(x + 0.15, z, 0.08, floor - 0.9, floor))
    trunk, head = Column(x, z, 0.18, floor - 1.5, floor - 0.8), Ball((x, floor - 1.62, z), 0.12)
    arms = Block((x - 0.7, floor - 1.45, z - 0.05), (x + 0.7, floor - 1.35, z + 0.05))
    return SceneObject("person", (*legs, trunk, head, arms), (x, floor - 0.87, z))


def chair(x: float, z: float) -> SceneObject:
    """Thin legs, a seat and a slatted back."""
    floor = CAMERA_HEIGHT
    spots = [(x + a * 0.22, z + b * 0.22) for a in (-1, 1) for b in (-1, 1)]
    legs = [Block((p - 0.02, floor - 0.45, q - 0.02), (p + 0.02, floor, q + 0.02)) for p, q in spots]
    seat = Block((x - 0.24, floor - 0.5, z - 0.24), (x + 0.24, floor - 0.45, z + 0.24))
    slats = [Block((x - 0.24, floor - h - 0.1, z + 0.2), (x + 0.24, floor - h, z + 0.24)) for h in (0.6, 0.8)]
    return SceneObject("chair", (*legs, seat, *slats), (x, floor - 0.45, z))


@dataclass(frozen=True)
class View:
    depth: np.ndarray  #: (h, w) along the axis, metres
    objects: np.ndarray  #: (h, w) number of the object in each pixel, or -1
    whole: tuple[int, ...]  #: pixels that each object would have, did nothing stand before it

    def box(self, number: int) -> tuple[float, float, float, float]:
        """Of what shows of an object, in pixels."""
        rows, columns = np.nonzero(self.objects == number)
        return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def render(
    objects: Sequence[SceneObject],
    width: int = 640,
    height: int = 480,
    focal: float = 480.0,
    wall: float = 9.0,
) -> View:
    """Through a pinhole with its centre in the middle of the picture."""
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (np.arange(height) + 0.5 - height / 2) / focal
    rays = np.dstack([*np.meshgrid(x, y), np.ones((height, width))])
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 1] > 0, CAMERA_HEIGHT / rays[..., 1], np.inf)
    empty = depth = np.minimum(floor, wall)
    number, whole = np.full((height, width), -1), []
    for i, item in enumerate(objects):
        hit = np.min([solid.hit(rays) for solid in item.solids], axis=0)
        number[hit < depth] = i
        depth = np.minimum(depth, hit)
        whole.append(int((hit < empty).sum()))
    return View(depth, number, tuple(whole))


def sensed(view: View, rng: np.random.Generator) -> np.ndarray:
    """As a stereo camera sees it: noise that grows with the square of depth, holes, no depth at edges."""
    depth = view.depth * (1 + rng.normal(0, 0.003, view.depth.shape) * view.depth)
    edges = np.abs(np.diff(view.depth, axis=1, prepend=view.depth[:, :1])) > 0.2
    depth[edges | np.roll(edges, 1, axis=1) | np.roll(edges, -1, axis=1)] = np.nan
    depth[rng.random(depth.shape) < 0.1] = np.nan
    return depth.astype(np.float32)
