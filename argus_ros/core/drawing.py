"""Draws detections into a picture."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def draw(picture: np.ndarray, detections: Iterable[Any], text: str = "") -> None:
    """Draw boxes with labels, and ``text`` at the bottom, into ``picture`` (height, width, 3) uint8 RGB.

    Detections may be ``Detection`` objects or messages, whose fields have the same names.
    """
    for found in detections:
        track = f"#{found.track_id} " if found.track_id else ""
        said = f"{found.description or found.label} {track}{found.score:.2f}"
        box = found.x_min, found.y_min, found.x_max, found.y_max
        mark(picture, box, colour_of(found.label), said)
    if text:
        _write(picture, text, (0, picture.shape[0]), _scale(picture), _BLACK)


def mark(
    picture: np.ndarray, box: tuple[float, float, float, float], colour: tuple[int, int, int], text: str
) -> None:
    """Draw one box (x_min, y_min, x_max, y_max) with a text at its upper left corner."""
    scale = _scale(picture)
    corner, opposite = (round(box[0]), round(box[1])), (round(box[2]), round(box[3]))
    cv2.rectangle(picture, corner, opposite, colour, max(round(2 * scale), 1))
    _write(picture, text, corner, scale, colour)


def _scale(picture: np.ndarray) -> float:
    return max(picture.shape[0] / 720, 0.5)


def colour_of(label: str) -> tuple[int, int, int]:
    """A bright colour (RGB, 0 to 255), always the same one for a label."""
    red, green, blue = colorsys.hsv_to_rgb(zlib.crc32(label.encode()) % 360 / 360, 0.8, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _write(
    picture: np.ndarray, text: str, at: tuple[int, int], scale: float, colour: tuple[int, int, int]
) -> None:
    """Write text on a box of ``colour`` with its lower left corner at ``at``, moved into the picture."""
    thick = max(round(scale), 1)
    (width, height), below = cv2.getTextSize(text, _FONT, 0.6 * scale, thick)
    x = max(min(at[0], picture.shape[1] - width), 0)
    y = max(at[1], height + below)
    cv2.rectangle(picture, (x, y - height - below), (x + width, y), colour, cv2.FILLED)
    ink = _BLACK if sum(colour) > 300 else _WHITE
    cv2.putText(picture, text, (x, y - below // 2), _FONT, 0.6 * scale, ink, thick, cv2.LINE_AA)
