"""What is behind the objects: rooms, walls, photographs, and distractors that are none of the classes."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from argus_ros.training.scenes.palette import as_rgb


def background(rng: np.random.Generator, width: int, height: int, heldout: bool) -> np.ndarray:
    """A picture without objects, (height, width, 3) uint8."""
    make = BACKGROUNDS[-1] if heldout else BACKGROUNDS[int(rng.choice(4, p=(0.45, 0.15, 0.25, 0.15)))]
    return make(rng, width, height)


def _dull(rng: np.random.Generator, low: float = 40, high: float = 220) -> np.ndarray:
    """A colour of little saturation, as walls and floors have."""
    return np.clip(rng.uniform(low, high) + rng.normal(0, 14, 3), 0, 255)


def _room(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    image = np.empty((height, width, 3), np.float32)
    horizon = int(height * rng.uniform(0.3, 0.65))
    image[:horizon] = _dull(rng, 120, 230)
    floor, depth = _dull(rng, 50, 170), np.linspace(0.85, 1.1, height - horizon)[:, None, None]
    image[horizon:] = floor * depth
    canvas = image.astype(np.uint8)
    if rng.random() < 0.6:  # floor boards or tiles that run to a vanishing point
        centre, line = width * rng.uniform(0.2, 0.8), as_rgb(floor * rng.uniform(0.75, 0.95))
        for i in range(-8, 17):
            cv2.line(
                canvas,
                (int(centre), horizon),
                (int(width * i / 8 + (centre - width / 2)), height),
                line,
                1,
                cv2.LINE_AA,
            )
        step = 4.0
        y = float(horizon)
        while y < height and rng.random() < 0.98:
            y += step
            step *= 1.4
            cv2.line(canvas, (0, int(y)), (width, int(y)), line, 1)
    return canvas


def _gradient(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    corners = np.stack([_dull(rng) for _ in range(4)]).reshape(2, 2, 3).astype(np.float32)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _clouds(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    image = np.full((height, width, 3), _dull(rng), np.float32)
    for cells, strength in ((3, 30), (8, 18), (30, 10)):
        noise = rng.normal(0, strength, (cells, cells, 3 if rng.random() < 0.3 else 1)).astype(np.float32)
        layer = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        image += layer if layer.ndim == 3 else layer[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _panels(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    canvas = _gradient(rng, width, height)
    for _ in range(int(rng.integers(2, 7))):
        x, w = int(rng.uniform(0, width)), int(rng.uniform(0.1, 0.4) * width)
        tone = np.clip(_dull(rng, 80, 210), 0, 255)
        canvas[:, x : x + w] = (canvas[:, x : x + w] * 0.5 + tone * 0.5).astype(np.uint8)
    return canvas


def _bricks(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    canvas = np.full((height, width, 3), _dull(rng, 120, 200), np.uint8)
    h = max(int(height * rng.uniform(0.04, 0.09)), 3)
    w, stone = int(h * 2.4), _dull(rng, 70, 190)
    for row, y in enumerate(range(0, height, h)):
        for x in range(-(row % 2) * (w // 2), width, w):
            tone = as_rgb(np.clip(stone + rng.normal(0, 7), 0, 255))
            cv2.rectangle(canvas, (x + 1, y + 1), (x + w - 2, y + h - 2), tone, -1)
    return canvas


BACKGROUNDS: tuple[Callable[[np.random.Generator, int, int], np.ndarray], ...] = (
    _room,
    _gradient,
    _clouds,
    _panels,
    _bricks,  # held out
)


def load_photographs() -> list[np.ndarray]:
    """Photographs that come with scikit-image and scikit-learn, RGB, where these are installed, else none.

    For training alone: no other split shows them. Those that show people are left out.
    """
    try:
        from skimage import data
        from sklearn.datasets import load_sample_images
    except ModuleNotFoundError:
        return []
    names = (
        "brick cat coffee coins grass gravel hubble_deep_field immunohistochemistry moon page retina rocket"
    )
    pictures = [getattr(data, name)() for name in (*names.split(), "text")]
    pictures += [data.stereo_motorcycle()[0], *load_sample_images().images]
    return [cv2.cvtColor(p, cv2.COLOR_GRAY2RGB) if p.ndim == 2 else p[..., :3] for p in pictures]


def cut_out(rng: np.random.Generator, photograph: np.ndarray, width: int, height: int) -> np.ndarray:
    """A random part of a photograph at (width, height), perhaps mirrored, in changed light."""
    rows, columns = photograph.shape[:2]
    share = rng.uniform(0.3, 1.0) * min(columns / width, rows / height)
    w, h = int(width * share), int(height * share)
    x, y = int(rng.integers(columns - w + 1)), int(rng.integers(rows - h + 1))
    part = cv2.resize(photograph[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    light = rng.uniform(0.5, 1.2) * (1 + rng.normal(0, 0.08, 3))
    return np.clip(part * light, 0, 255).astype(np.uint8)


def scatter_distractors(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw lines, crosses and scribbles, which belong to no class."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(0, 5))):
        centre = rng.uniform(0, 1, 2) * (width, height)
        points = (centre + rng.normal(0, 0.08 * width, (int(rng.integers(2, 5)), 2))).astype(np.int32)
        thickness = int(rng.integers(1, max(2, width // 80)))
        cv2.polylines(
            image, [points], bool(rng.random() < 0.2), as_rgb(rng.uniform(0, 255, 3)), thickness, cv2.LINE_AA
        )
