"""The parts that solids are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from argus_ros.training.scenes.palette import RGB, Palette

Vector = Sequence[float] | np.ndarray

UP = (0.0, 0.0, 1.0)
GLASS: tuple[RGB, ...] = ((52, 66, 80), (34, 40, 48), (110, 135, 152))
RUBBER: RGB = (34, 34, 36)


@dataclass(frozen=True)
class Part:
    """One shape: the points of its unit cube, x, y and z from -1 to 1, times ``frame``, plus ``centre``.

    A ``drum`` and a ``block`` are as wide as their cube at the bottom and ``taper`` times that at the top; a
    ``ridge`` narrows along x only. A ``rod`` is a capsule: its frame's columns are radius, radius and half
    the length between the centres of its ends.
    """

    shape: str  #: ball, rod, drum, block or ridge
    centre: np.ndarray  #: (3,)
    frame: np.ndarray  #: (3, 3)
    colour: RGB
    taper: float = 1.0  #: at most 1


def along(axis: Vector) -> np.ndarray:
    """(3, 3) rotation that takes z to an axis and keeps x as level as possible."""
    z = np.asarray(axis, float) / np.linalg.norm(axis)
    x = np.cross((0, 1, 0) if abs(z[1]) < 0.9 else (1, 0, 0), z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], 1)


class Kit(Palette):
    """Collects the parts of one object; a part without a colour of its own gets the main one."""

    def __init__(self, colour: RGB, rng: np.random.Generator) -> None:
        super().__init__(colour, rng)
        self.parts: list[Part] = []

    def one_of(self, colours: Sequence[RGB]) -> RGB:
        return colours[int(self.rng.integers(len(colours)))]

    def ball(
        self, centre: Vector, radius: float | Vector, colour: RGB | None = None, axis: Vector = UP
    ) -> None:
        frame = along(axis) @ np.diag(np.broadcast_to(radius, 3))
        self.parts.append(Part("ball", np.asarray(centre, float), frame, colour or self.main))

    def rod(self, a: Vector, b: Vector, radius: float, colour: RGB | None = None) -> None:
        """Round bar with round ends, whose centres are ``a`` and ``b``."""
        p, q = np.asarray(a, float), np.asarray(b, float)
        length = max(float(np.linalg.norm(q - p)), 1e-6)
        frame = along((q - p) / length) @ np.diag((radius, radius, length / 2))
        self.parts.append(Part("rod", (p + q) / 2, frame, colour or self.main))

    def chain(self, points: Sequence[Vector], radius: float, colour: RGB | None = None) -> None:
        for a, b in pairwise(points):
            self.rod(a, b, radius, colour)

    def drum(
        self,
        base: Vector,
        radius: float | Vector,
        height: float,
        colour: RGB | None = None,
        top: float = 1.0,
        axis: Vector = UP,
    ) -> None:
        """A round column along the axis from the centre of its base; ``top`` times as wide at the top."""
        x, y = (float(r) for r in np.broadcast_to(radius, 2))
        self._stand("drum", base, (x, y, height / 2), colour, top, along(axis))

    def block(
        self,
        base: Vector,
        size: Vector,
        colour: RGB | None = None,
        top: float = 1.0,
        frame: np.ndarray | None = None,
        shift: float = 0.0,
        shape: str = "block",
    ) -> None:
        """A cuboid, placed by the centre of its base; ``shift`` moves its top along x."""
        x, y, z = size
        frame = np.eye(3) if frame is None else frame
        lean = np.eye(3)
        lean[0, 2] = shift / z
        self._stand(shape, base, (x / 2, y / 2, z / 2), colour, top, frame @ lean)

    def box(
        self, centre: Vector, size: Vector, colour: RGB | None = None, frame: np.ndarray | None = None
    ) -> None:
        """A cuboid, placed by its centre."""
        frame = np.eye(3) if frame is None else frame
        self.block(np.asarray(centre) - frame @ (0, 0, size[2] / 2), size, colour, frame=frame)

    def _stand(
        self, shape: str, base: Vector, half: Vector, colour: RGB | None, top: float, frame: np.ndarray
    ) -> None:
        centre = np.asarray(base, float) + frame @ (0, 0, half[2])
        scale = np.array(half, float)
        if top > 1:  # wider at the top: the same shape upside down
            frame = frame @ np.diag((1.0, -1.0, -1.0))
            scale[: 1 if shape == "ridge" else 2] *= top
            top = 1 / top
        self.parts.append(Part(shape, centre, frame @ np.diag(scale), colour or self.main, top))

    def wheel(self, centre: Vector, radius: float, width: float, rim: RGB, axis: Vector = (0, 1, 0)) -> None:
        """A tyre with a rim on both sides."""
        middle, way = np.asarray(centre, float), np.asarray(axis, float)
        self.drum(middle - way * width / 2, radius, width, RUBBER, axis=axis)
        self.drum(middle - way * width * 0.53, radius * 0.6, width * 1.06, rim, axis=axis)


Model = Callable[[Kit], None]


@dataclass(frozen=True)
class Family:
    """The models of a class, and the largest angle from its front, in degrees, at which it is seen."""

    models: tuple[Model, ...]  #: the last one is held out
    turn: float = 180.0
