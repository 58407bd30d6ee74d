"""The pictures that a measurement runs on."""

from __future__ import annotations

import cv2
import numpy as np

from argus_ros.core.checkpoint import Checkpoint
from argus_ros.training import scenes


def photograph(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 RGB with detail at every scale, lens blur and sensor noise."""
    (width, height), rng = size, np.random.default_rng(seed)
    picture: np.ndarray = np.full((height, width, 3), 128, np.float32)
    for octave in range(1, 8):
        cells = 2**octave
        coarse = rng.normal(0, 40 / 2 ** (0.6 * octave), (cells * height // width + 2, cells + 2, 3))
        picture += cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    picture = cv2.GaussianBlur(picture, (0, 0), 1.0) + rng.normal(0, 1, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def pictures_for(checkpoint: Checkpoint, size: tuple[int, int], count: int) -> list[np.ndarray]:
    """Pictures (height, width, 3) uint8 RGB to measure on: scenes of eight objects if the model knows them.

    Drafts of tokens gain only where a model is sure of what it sees: in pictures like those of its training.
    """
    known = checkpoint.vocabulary.classes if checkpoint.vocabulary else ()
    if set(scenes.CLASSES) <= set(known):
        return [scenes.render(seed, "val", size, (8, 8)).image for seed in range(count)]
    return [photograph(size, seed) for seed in range(count)]
