"""Composes a scene from its seed: background, distractors, and objects that hide each other only in part."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from argus_ros.training.scenes.backgrounds import background, cut_out, scatter_distractors
from argus_ros.training.scenes.degradation import degrade
from argus_ros.training.scenes.drawings import CLASSES, KINDS
from argus_ros.training.scenes.painting import paint, place
from argus_ros.training.scenes.palette import COLOURS
from argus_ros.training.scenes.scene import SPLITS, Scene, SceneObject, clip, overlap
from argus_ros.training.scenes.sprites import Bank, Sprite


def render(
    seed: int,
    split: str = "train",
    size: tuple[int, int] = (320, 240),
    objects: tuple[int, int] = (0, 8),
    photographs: Sequence[np.ndarray] = (),
    bank: Bank | None = None,
) -> Scene:
    """Scene ``seed`` of a split at ``size`` (width, height), with ``objects`` (least, most).

    A quarter of the scenes stands before one of ``photographs``, RGB, where there are any. Some objects, or
    all, are sprites of the ``bank``, where there is one.
    """
    rng = np.random.default_rng((SPLITS.index(split), seed))
    width, height = size
    if photographs and rng.random() < 0.25:
        image = cut_out(rng, photographs[int(rng.integers(len(photographs)))], width, height)
    else:
        image = background(rng, width, height, heldout=split == "heldout")
    scatter_distractors(image, rng)
    painted = []
    count = int(rng.integers(objects[0], objects[1] + 1))
    for label, colour, box, sprite in _arrange(rng, width, height, count, bank):
        if sprite:
            extent = place(image, rng, sprite, box, split)
        else:
            extent = paint(image, rng, label, colour, box, split)
        painted.append(SceneObject(label, colour, clip(extent, width, height)))
    image = degrade(image, rng)
    return Scene(image, tuple(sorted(painted, key=lambda t: -t.area)), frozenset(CLASSES))


def _arrange(
    rng: np.random.Generator, width: int, height: int, count: int, bank: Bank | None
) -> list[tuple[str, str, tuple[float, float, float, float], Sprite | None]]:
    """Labels, colours and boxes, back to front; no object is hidden or cut off by more than a third.

    A sprite sets the aspect of its box, and the colour.
    """
    placed: list[tuple[float, float, float, float]] = []
    chosen = []
    favourite = rng.choice(len(CLASSES))  # scenes with several of one kind are common
    for _ in range(count):
        for _ in range(20):
            label = CLASSES[favourite if rng.random() < 0.25 else rng.integers(len(CLASSES))]
            side = math.exp(rng.uniform(math.log(0.08), math.log(0.6))) * math.sqrt(width * height)
            sprite = bank.draw(rng, label) if bank else None
            aspect = sprite.aspect if sprite else rng.uniform(*KINDS[label].aspect)
            w, h = side * math.sqrt(aspect), side / math.sqrt(aspect)
            if w > 1.1 * width or h > 1.1 * height:
                continue
            x = rng.uniform(-0.25 * w, width - 0.75 * w)
            y = rng.uniform(-0.25 * h, height - 0.75 * h)
            box = (x, y, x + w, y + h)
            seen = clip(box, width, height)
            if overlap(seen, box) < 0.67 * w * h or any(_hides(seen, other) for other in placed):
                continue
            placed.append(seen)
            colour = sprite.colour if sprite else list(COLOURS)[rng.integers(len(COLOURS))]
            chosen.append((label, colour, box, sprite))
            break
    return chosen


def _hides(front: Sequence[float], back: Sequence[float]) -> bool:
    """Whether ``front`` covers more than a third of ``back``, or lies wholly on it."""
    shared = overlap(front, back)
    return shared > 0.34 * (back[2] - back[0]) * (back[3] - back[1])
