"""A camera that moves past objects on a floor: the demo's film, with the true boxes of every frame.

A pinhole camera one metre above the floor looks at right angles to its path. The same seed gives the same
film; objects look the same in each frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from argus_ros.core.matching import Box
from argus_ros.training.scenes.drawings import CLASSES, KINDS
from argus_ros.training.scenes.painting import paint
from argus_ros.training.scenes.palette import COLOURS
from argus_ros.training.scenes.scene import clip, overlap

#: Heights in metres; small objects are larger than in reality, so that a small picture shows them.
HEIGHTS = {
    "person": 1.75,
    "cone": 0.9,
    "ball": 0.7,
    "box": 0.8,
    "barrel": 1.0,
    "chair": 1.1,
    "door": 2.1,
    "bottle": 1.0,
    "robot": 1.2,
    "car": 1.3,
}
CAMERA_HEIGHT = 1.0  #: metres
FOCAL = 0.75  #: focal length over picture width
WALL = 7.0  #: metres from the camera's path
#: Noise of the depth camera: error over depth squared (per metre), side of the blocks that share one error
#: in pixels, and the share of blocks without depth.
DEPTH_NOISE, DEPTH_BLOCK, DEPTH_HOLES = 0.003, 4, 0.05


@dataclass(frozen=True)
class Walk:
    """What to film. ``speed`` in metres per second; 0 is a camera that stands still."""

    seed: int = 0
    seconds: float = 20.0
    rate: float = 15.0  #: frames per second
    width: int = 640
    height: int = 480
    speed: float = 0.7


@dataclass(frozen=True)
class Seen:
    """One object in one frame; ``counts`` is false where too little of it is visible to be asked for."""

    label: str
    colour: str
    box: Box
    counts: bool
    position: tuple[float, float, float]  #: of its centre in the camera's optical frame, metres


@dataclass(frozen=True)
class Shot:
    seconds: float  #: since the film began
    image: np.ndarray  #: (height, width, 3) uint8 RGB
    seen: tuple[Seen, ...]
    #: (height, width) uint16 millimetres, 0 where there is no depth; None unless it was asked for
    depth: np.ndarray | None = None


@dataclass(frozen=True)
class _Placed:
    """An object on the floor: metres along the camera's path, and metres from it."""

    number: int
    label: str
    colour: str
    x: float
    depth: float
    aspect: float


def film(walk: Walk, *, depth: bool = False) -> Iterator[Shot]:
    """The frames of a walk, in order; with ``depth`` also the picture of a depth camera at the same place."""
    objects = place(walk)
    wall, floor = _surroundings(walk)
    noise = np.random.default_rng((walk.seed, 1))
    empty, sensor = _empty_depth(walk), np.random.default_rng((walk.seed, 4))
    for i in range(round(walk.seconds * walk.rate)):
        at = walk.speed * i / walk.rate
        image = _room(walk, wall, floor, at)
        metres = empty.copy() if depth else None
        seen: list[tuple[_Placed, Box]] = []
        for placed in objects:  # farthest first
            box = project(walk, placed, at)
            if box[2] > 1 and box[0] < walk.width - 1:
                looks = np.random.default_rng((walk.seed, 2, placed.number))
                before = image.copy() if depth else image
                paint(image, looks, placed.label, placed.colour, box, "val")
                if metres is not None:
                    metres[(image != before).any(axis=2)] = placed.depth
                seen.append((placed, box))
        grain = noise.normal(0, 3, image.shape[:2])[..., None]
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
        sensed = None if metres is None else _sensed(metres, sensor)
        yield Shot(i / walk.rate, image, tuple(truth(walk, seen, at)), sensed)


def place(walk: Walk) -> list[_Placed]:
    """Objects along the whole path, no two at one spot, farthest first."""
    rng = np.random.default_rng((walk.seed, 0))
    placed: list[_Placed] = []
    x, end = -3.5, walk.speed * walk.seconds + 3.5
    while x < end:
        label = CLASSES[int(rng.integers(len(CLASSES)))]
        colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        depth = float(rng.choice((3.0, 4.2, 5.5)))
        placed.append(_Placed(len(placed), label, colour, x, depth, float(rng.uniform(*KINDS[label].aspect))))
        x += float(rng.uniform(0.9, 1.7))
    return sorted(placed, key=lambda t: -t.depth)


def project(walk: Walk, placed: _Placed, at: float) -> Box:
    scale = FOCAL * walk.width / placed.depth  # pixels per metre
    middle = walk.width / 2 + (placed.x - at) * scale
    foot = _horizon(walk) + CAMERA_HEIGHT * scale
    tall = HEIGHTS[placed.label] * scale
    wide = tall * placed.aspect
    return (middle - wide / 2, foot - tall, middle + wide / 2, foot)


def _horizon(walk: Walk) -> float:
    return 0.5 * walk.height


def _empty_depth(walk: Walk) -> np.ndarray:
    """(height, width) metres of wall and floor along the view."""
    below = np.arange(walk.height) + 0.5 - _horizon(walk)
    floor = CAMERA_HEIGHT * FOCAL * walk.width / np.maximum(below, 1e-3)
    return np.repeat(np.minimum(floor, WALL)[:, None], walk.width, axis=1)


def _sensed(metres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(height, width) uint16 millimetres: noise that grows with the square of depth, and holes."""
    height, width = metres.shape
    blocks = -(-height // DEPTH_BLOCK), -(-width // DEPTH_BLOCK)
    error = rng.normal(0.0, DEPTH_NOISE, blocks)
    error[rng.random(blocks) < DEPTH_HOLES] = np.nan
    spread = np.repeat(np.repeat(error, DEPTH_BLOCK, 0), DEPTH_BLOCK, 1)[:height, :width]
    return np.nan_to_num(1e3 * metres * (1.0 + spread * metres)).round().astype(np.uint16)


def truth(walk: Walk, seen: Sequence[tuple[_Placed, Box]], at: float) -> Iterator[Seen]:
    """Boxes clipped to the picture; an object counts while two thirds of it are visible."""
    for i, (placed, box) in enumerate(seen):
        shown = clip(box, walk.width, walk.height)
        area = (box[2] - box[0]) * (box[3] - box[1])
        hidden = sum(overlap(shown, front) for _, front in seen[i + 1 :])
        visible = overlap(shown, shown) - hidden
        middle = (placed.x - at, CAMERA_HEIGHT - HEIGHTS[placed.label] / 2, placed.depth)
        yield Seen(placed.label, placed.colour, shown, visible > 0.67 * area, middle)


def _surroundings(walk: Walk) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((walk.seed, 3))
    wall = np.clip(rng.uniform(150, 215) + rng.normal(0, 10, 3), 0, 255)
    return wall, np.clip(rng.uniform(80, 140) + rng.normal(0, 10, 3), 0, 255)


def _room(walk: Walk, wall: np.ndarray, floor: np.ndarray, at: float) -> np.ndarray:
    """Wall and boarded floor as seen from ``at`` metres along the path."""
    image = np.empty((walk.height, walk.width, 3), np.uint8)
    horizon = int(_horizon(walk))
    foot = horizon + int(CAMERA_HEIGHT * FOCAL * walk.width / WALL)
    image[:foot] = wall
    image[foot:] = floor
    line = tuple(int(v) for v in floor * 0.85)
    focal = FOCAL * walk.width
    for metre in range(math.floor(at) - 12, math.ceil(at) + 12):
        far, near = ((metre - at) * focal / depth + walk.width / 2 for depth in (WALL, 1.0))
        cv2.line(image, (int(far), foot), (int(near), int(horizon + focal)), line, 1, cv2.LINE_AA)
    seam = tuple(int(v) for v in wall * 0.93)
    for metre in range((math.floor(at) - 12) // 3 * 3, math.ceil(at) + 12, 3):
        x = int((metre - at) * focal / WALL + walk.width / 2)
        cv2.line(image, (x, 0), (x, foot), seam, 2)
    return image
