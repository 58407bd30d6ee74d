"""Puts one object into a picture: as a drawing, or as a sprite with its shadow."""

from __future__ import annotations

import math

import cv2
import numpy as np

from argus_ros.training.scenes.brush import STRAIGHT, Brush
from argus_ros.training.scenes.drawings import HELD_OUT, KINDS
from argus_ros.training.scenes.palette import shade_of
from argus_ros.training.scenes.sprites import Sprite, paste
from argus_ros.training.scenes.wear import light, random_bend, wear


def paint(
    image: np.ndarray,
    rng: np.random.Generator,
    label: str,
    colour: str,
    box: tuple[float, float, float, float],
    split: str,
    variant: int | None = None,
) -> tuple[float, float, float, float]:
    """Draw one object in place, perhaps lit from a side or mirrored; returns its box."""
    height, width = image.shape[:2]
    kind = KINDS[label]
    if variant is None:
        variant = HELD_OUT if split == "heldout" else int(rng.integers(kind.variants - 1))
        variant += split != "heldout" and variant >= HELD_OUT
    x0, y0 = max(math.floor(box[0]) - 1, 0), max(math.floor(box[1]) - 1, 0)
    x1, y1 = min(math.ceil(box[2]) + 1, width), min(math.ceil(box[3]) + 1, height)
    region = image[y0:y1, x0:x1]
    left, top, right, bottom = box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0
    mirrored = rng.random() < 0.5
    drawn = np.ascontiguousarray(region[:, ::-1] if mirrored else region)
    if mirrored:
        left, right = region.shape[1] - right, region.shape[1] - left
    shade = shade_of(colour, rng)
    before = drawn.copy()
    bend = random_bend(rng, kind.bends) if split == "train" else STRAIGHT
    kind.draw(Brush(drawn, (left, top, right, bottom), shade, rng, bend), variant)
    if split == "train":
        wear(drawn, (drawn != before).any(-1), rng, (left, top, right, bottom))
    if rng.random() < 0.7:
        light(drawn, before, rng)
    region[:] = drawn[:, ::-1] if mirrored else drawn
    return box


def place(
    image: np.ndarray,
    rng: np.random.Generator,
    sprite: Sprite,
    box: tuple[float, float, float, float],
    split: str,
) -> tuple[float, float, float, float]:
    """Put a sprite in place, perhaps mirrored or with a shadow at its foot; returns its box."""
    x, y = round(box[0]), round(box[1])
    w, h = max(1, round(box[2] - box[0])), max(1, round(box[3] - box[1]))
    pixels = sprite.pixels()
    shrinks = w < pixels.shape[1]
    pixels = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    if split == "train":
        drawn = np.ascontiguousarray(pixels[..., :3])
        wear(drawn, pixels[..., 3] == 255, rng, (0, 0, w, h))
        pixels = np.dstack([drawn, pixels[..., 3]])
    if rng.random() < 0.5:
        draw_shadow(image, (x + w / 2, y + h), w / 2, rng.uniform(0.2, 0.6))
    return paste(image, pixels, (x, y), rng.uniform(0.75, 1.2))


def draw_shadow(image: np.ndarray, foot: tuple[float, float], half: float, depth: float) -> None:
    """A soft ellipse on the floor about a point; ``half`` is half an object's width, ``depth`` 1 black."""
    height, width = image.shape[:2]
    x0, x1 = max(math.floor(foot[0] - 1.3 * half), 0), min(math.ceil(foot[0] + 1.3 * half), width)
    y0, y1 = max(math.floor(foot[1] - 0.5 * half), 0), min(math.ceil(foot[1] + 0.3 * half), height)
    if x0 >= x1 or y0 >= y1:
        return
    across = (np.arange(x0, x1) + 0.5 - foot[0]) / (1.3 * half)
    down = (np.arange(y0, y1) + 0.5 - foot[1] + 0.1 * half) / (0.4 * half)
    strength = np.clip(1 - across[None] ** 2 - down[:, None] ** 2, 0, 1) * depth
    image[y0:y1, x0:x1] = (image[y0:y1, x0:x1] * (1 - strength[..., None])).astype(np.uint8)
