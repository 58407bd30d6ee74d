"""Rigid transforms as (4, 4) matrices, and their rotations as quaternions (x, y, z, w)."""

from __future__ import annotations

import numpy as np


def transform(translation: tuple[float, ...], quaternion: tuple[float, ...]) -> np.ndarray:
    """(4, 4). Raises ValueError for numbers that are not a transform."""
    x, y, z, w = np.asarray(quaternion, float)
    length = x * x + y * y + z * z + w * w
    if not (np.isfinite(translation).all() and np.isfinite(length) and abs(length - 1.0) < 0.1):
        raise ValueError(f"translation {translation} with quaternion {quaternion} is not a transform")
    s = 2.0 / length
    result = np.eye(4)
    result[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    result[:3, 3] = translation
    return result


def quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """(x, y, z, w) of a rotation matrix (3, 3), w not negative."""
    m = rotation
    # Four times the square of each component; the largest is never close to 0.
    squares = np.array(
        [
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
            1 + m[0, 0] + m[1, 1] + m[2, 2],
        ]
    )
    differences = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    best = int(squares.argmax())
    if best == 3:
        q = np.array([*differences, squares[3]])
    else:
        q = np.array([*(m[best] + m[:, best])[:3], differences[best]])
        q[best] = squares[best]
    q /= np.linalg.norm(q)
    x, y, z, w = (float(v) for v in (-q if q[3] < 0 else q))
    return x, y, z, w
