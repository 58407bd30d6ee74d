"""What a camera does to a picture: exposure, white balance, blur, noise and JPEG."""

from __future__ import annotations

import cv2
import numpy as np


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each of the effects with a probability of its own."""
    if rng.random() < 0.6:
        gain = rng.uniform(0.7, 1.25) * (1 + rng.normal(0, 0.04, 3))
        table = np.clip(np.arange(256)[:, None] * gain + rng.uniform(-15, 15), 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.0) * image.shape[1] / 320)
    if rng.random() < 0.5:
        image = noisy(image, rng, 9)
    if rng.random() < 0.25:
        image = jpeg(image, int(rng.integers(45, 95)))
    return image


def noisy(image: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """A picture with Gaussian noise of one to ``most`` grey levels."""
    noise = np.empty(image.shape, np.float32)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(noise, np.zeros(3), np.full(3, rng.uniform(1, most)))
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """What is left of a picture after JPEG compression."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded
