"""Other pictures from a picture with boxes: cut, flipped, pieced together, pasted into, recoloured.

Every function returns a new scene; boxes stay the truth. An object of which too little is left is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from argus_ros.core.matching import Box
from argus_ros.training.scenes import Scene, SceneObject, clip, overlap
from argus_ros.training.scenes.degradation import jpeg, noisy

#: Of an object at least this share of its box has to be in view.
VISIBLE = 0.4
#: A piece that is pasted in takes this share of its box around it, and fades there.
MARGIN = 0.15


def crop(scene: Scene, x0: int, y0: int, x1: int, y1: int) -> Scene:
    """The part of a scene between two corners, pixels."""
    objects = []
    for item in scene.objects:
        a, b, c, d = item.box
        box = clip((a - x0, b - y0, c - x0, d - y0), x1 - x0, y1 - y0)
        left = replace(item, box=box)
        if box[0] < box[2] and box[1] < box[3] and left.area >= VISIBLE * item.area:
            objects.append(left)
    return replace(scene, image=scene.image[y0:y1, x0:x1], objects=tuple(objects))


def random_crop(scene: Scene, rng: np.random.Generator, least: float = 0.4) -> Scene:
    """A part of about the scene's own aspect, from ``least`` of its sides to all of it."""
    height, width = scene.image.shape[:2]
    share = rng.uniform(least, 1.0)
    w, h = (round(n * min(share * rng.uniform(0.8, 1.2), 1.0)) for n in (width, height))
    x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return crop(scene, x, y, x + w, y + h)


def scaled(scene: Scene, width: int, height: int) -> Scene:
    """The scene at another size."""
    sx, sy = width / scene.image.shape[1], height / scene.image.shape[0]
    how = cv2.INTER_AREA if sx < 1 and sy < 1 else cv2.INTER_LINEAR
    image = cv2.resize(scene.image, (width, height), interpolation=how)
    objects = tuple(replace(t, box=_scaled(t.box, sx, sy)) for t in scene.objects)
    return replace(scene, image=image, objects=objects)


def flipped(scene: Scene) -> Scene:
    """Left for right."""
    width = scene.image.shape[1]
    objects = tuple(
        replace(t, box=(width - t.box[2], t.box[1], width - t.box[0], t.box[3])) for t in scene.objects
    )
    return replace(scene, image=scene.image[:, ::-1], objects=objects)


def mosaic(scenes: Sequence[Scene], rng: np.random.Generator, width: int, height: int) -> Scene:
    """Parts of four scenes as the quarters of one of this size, at 0.5 to 1.4 times their size.

    The mosaic is complete for the classes that all four are complete for.
    """
    x, y = round(width * rng.uniform(0.3, 0.7)), round(height * rng.uniform(0.3, 0.7))
    canvas = np.empty((height, width, 3), np.uint8)
    objects: list[SceneObject] = []
    corners = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    for scene, (x0, y0, x1, y1) in zip(scenes, corners, strict=True):
        tall, wide = scene.image.shape[:2]
        zoom = max(rng.uniform(0.5, 1.4), (x1 - x0) / wide, (y1 - y0) / tall)
        w, h = min(round((x1 - x0) / zoom), wide), min(round((y1 - y0) / zoom), tall)
        left, top = int(rng.integers(wide - w + 1)), int(rng.integers(tall - h + 1))
        part = scaled(crop(scene, left, top, left + w, top + h), x1 - x0, y1 - y0)
        canvas[y0:y1, x0:x1] = part.image
        objects += [replace(t, box=_moved(t.box, x0, y0)) for t in part.objects]
    return Scene(canvas, tuple(objects), shared_classes(scenes))


def shared_classes(scenes: Sequence[Scene]) -> frozenset[str] | None:
    """Classes that every scene is complete for; None: all."""
    limited = [s.complete for s in scenes if s.complete is not None]
    return frozenset.intersection(*limited) if limited else None


def pasted(scene: Scene, source: Scene, item: SceneObject, rng: np.random.Generator) -> Scene:
    """The scene with ``item`` of ``source``, about as high as it was there; as it is if that has no room."""
    height, width = scene.image.shape[:2]
    tall, wide = source.image.shape[:2]
    grow = MARGIN * (item.box[2] - item.box[0]), MARGIN * (item.box[3] - item.box[1])
    a, b, c, d = item.box
    frame = clip((a - grow[0], b - grow[1], c + grow[0], d + grow[1]), wide, tall)
    x0, y0, x1, y1 = round(frame[0]), round(frame[1]), round(frame[2]), round(frame[3])
    piece = crop(replace(source, objects=(item,)), x0, y0, x1, y1)
    if rng.random() < 0.5:
        piece = flipped(piece)
    zoom = rng.uniform(0.7, 1.4) * min(width / wide, height / tall)
    w, h = round((x1 - x0) * zoom), round((y1 - y0) * zoom)
    if not (2 <= w <= width and 2 <= h <= height):
        return scene
    piece = scaled(piece, w, h)
    x = int(rng.integers(width - w + 1))
    middle = (y0 + y1) / 2 / tall + rng.normal(0, 0.04)
    y = int(np.clip(middle * height - h / 2, 0, height - h))
    there = replace(item, box=_moved(piece.objects[0].box, x, y))
    if any(overlap(there.box, t.box) > 0.1 * min(there.area, t.area) for t in scene.objects):
        return scene
    image = scene.image.copy()
    fade = np.zeros((h, w, 1), np.float32)
    inner = piece.objects[0].box
    fade[max(round(inner[1]), 1) : round(inner[3]), max(round(inner[0]), 1) : round(inner[2])] = 1
    fade[..., 0] = cv2.GaussianBlur(fade, (0, 0), max(MARGIN * min(w, h) / 3, 0.5))
    spot = image[y : y + h, x : x + w]
    spot[:] = (piece.image * fade + spot * (1 - fade)).astype(np.uint8)
    return replace(scene, image=image, objects=(*scene.objects, there))


def recoloured(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another light, another camera: exposure, white balance, gamma, saturation, blur, noise, JPEG."""
    if rng.random() < 0.8:
        gain = rng.uniform(0.7, 1.3) * (1 + rng.normal(0, 0.05, 3))
        levels = (np.arange(256)[:, None] / 255) ** rng.uniform(0.75, 1.3) * gain * 255
        image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.4:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
        keep = float(rng.uniform(0.2, 1.5))
        image = cv2.addWeighted(image, keep, np.repeat(grey, 3, -1), 1 - keep, 0)
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    if rng.random() < 0.3:
        image = noisy(image, rng, 7)
    if rng.random() < 0.3:
        image = jpeg(image, int(rng.integers(50, 95)))
    return image


def _moved(box: Box, x: float, y: float) -> Box:
    return (box[0] + x, box[1] + y, box[2] + x, box[3] + y)


def _scaled(box: Box, sx: float, sy: float) -> Box:
    return (box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy)
