"""Changes how drawn objects look: bent proportions, patches, stripes, dirt, and light from a side."""

from __future__ import annotations

import math

import cv2
import numpy as np

from argus_ros.training.scenes.brush import Bend
from argus_ros.training.scenes.palette import as_rgb


def random_bend(rng: np.random.Generator, strength: float) -> Bend:
    """Random proportions of a drawing; ``strength`` 0 leaves them as they are."""
    middle, down = np.exp(rng.normal(0, 0.22 * strength, 2))
    return Bend(float(middle), float(down), float(rng.normal(0, 0.04 * strength)))


def wear(
    drawn: np.ndarray, changed: np.ndarray, rng: np.random.Generator, box: tuple[float, float, float, float]
) -> None:
    """Patches, stripes and dirt on some objects, where ``changed``, (height, width) bool, is true."""
    if rng.random() < 0.25:
        _patch(drawn, changed, rng, box)
    if rng.random() < 0.3:
        _stripe(drawn, changed, rng, box)
    if rng.random() < 0.25:
        _mottle(drawn, changed, rng)


def _patch(
    drawn: np.ndarray, changed: np.ndarray, rng: np.random.Generator, box: tuple[float, float, float, float]
) -> None:
    """A label, hole or reflection in any colour on the object, smaller than an eighth of its box."""
    size = np.array([box[2] - box[0], box[3] - box[1]])
    centre = np.array(box[:2]) + size * rng.uniform(0.15, 0.85, 2)
    half = size * rng.uniform(0.04, 0.17, 2)
    patched = drawn.copy()
    (x0, y0), (x1, y1) = (centre - half).astype(int).tolist(), (centre + half).astype(int).tolist()
    colour = as_rgb(rng.uniform(0, 255, 3))
    if rng.random() < 0.5:
        cv2.rectangle(patched, (x0, y0), (x1, y1), colour, -1)
    else:
        middle, axes = ((x0 + x1) // 2, (y0 + y1) // 2), ((x1 - x0) // 2, (y1 - y0) // 2)
        cv2.ellipse(patched, middle, axes, 0, 0, 360, colour, -1)
    drawn[changed] = patched[changed]


def _stripe(
    drawn: np.ndarray, changed: np.ndarray, rng: np.random.Generator, box: tuple[float, float, float, float]
) -> None:
    """Up to three tapes, seams or shadows across the whole object, darker, lighter or in any colour."""
    size = np.array([box[2] - box[0], box[3] - box[1]])
    striped = drawn.copy()
    for _ in range(int(rng.integers(1, 4))):
        centre = np.array(box[:2]) + size * rng.uniform(0.1, 0.9, 2)
        angle = rng.choice((0.0, math.pi / 2, rng.uniform(0, math.pi)))
        along = np.array([math.cos(angle), math.sin(angle)]) * size.sum()
        ends = [tuple((centre + way * along).astype(int).tolist()) for way in (-1, 1)]
        thickness = max(1, round(size.min() * rng.uniform(0.02, 0.12)))
        stroke = np.zeros(drawn.shape[:2], np.uint8)
        cv2.line(stroke, ends[0], ends[1], 1, thickness)
        where = stroke > 0
        if rng.random() < 0.6:
            striped[where] = np.clip(striped[where] * rng.uniform(0.5, 1.4), 0, 255).astype(np.uint8)
        else:
            striped[where] = rng.uniform(0, 255, 3).astype(np.uint8)
    drawn[changed] = striped[changed]


def _mottle(drawn: np.ndarray, changed: np.ndarray, rng: np.random.Generator) -> None:
    """Dirt: soft blotches, darker and lighter."""
    cells = int(rng.integers(3, 9))
    noise = rng.normal(1, rng.uniform(0.03, 0.14), (cells, cells)).astype(np.float32)
    gain = cv2.resize(noise, drawn.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    drawn[changed] = np.clip(drawn[changed] * gain[changed][:, None], 0, 255).astype(np.uint8)


def light(drawn: np.ndarray, before: np.ndarray, rng: np.random.Generator) -> None:
    """Shade the object from one side to the other."""
    height, width = drawn.shape[:2]
    low, high = rng.uniform(0.65, 1.0), rng.uniform(1.0, 1.2)
    ramp = np.linspace(low, high, width if rng.random() < 0.5 else height, dtype=np.float32)
    if rng.random() < 0.5:
        ramp = ramp[::-1]
    gain = np.broadcast_to(ramp[None, :] if len(ramp) == width else ramp[:, None], (height, width))
    changed = (drawn != before).any(-1)
    drawn[changed] = np.clip(drawn[changed] * gain[changed][:, None], 0, 255).astype(np.uint8)
