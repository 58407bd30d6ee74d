"""Colours: the names that a description may use, and how objects vary them."""

from __future__ import annotations

import numpy as np

RGB = tuple[int, int, int]

#: Name and typical RGB of the colours that a description may name.
COLOURS: dict[str, RGB] = {
    "red": (205, 40, 40),
    "orange": (240, 130, 25),
    "yellow": (238, 215, 45),
    "green": (45, 150, 60),
    "blue": (45, 85, 205),
    "purple": (140, 55, 170),
    "white": (236, 236, 236),
    "black": (34, 34, 36),
}


def shade_of(colour: str, rng: np.random.Generator) -> RGB:
    """A colour by its name as an object may have it: a little off, lighter or darker."""
    shade = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 9, 3) + rng.normal(0, 10), 0, 255)
    return (int(shade[0]), int(shade[1]), int(shade[2]))


def as_rgb(colour: np.ndarray) -> RGB:
    """Whole numbers of a colour that was computed, (3,) from 0 to 255."""
    return (int(colour[0]), int(colour[1]), int(colour[2]))


class Palette:
    """Main and further colours of one object, and the random choices that vary it."""

    def __init__(self, colour: RGB, rng: np.random.Generator) -> None:
        self.main = colour
        self.rng = rng

    def shade(self, factor: float, colour: RGB | None = None) -> RGB:
        """A darker (< 1) or lighter (> 1) version of a colour, the main one by default."""
        rgb = np.asarray(colour or self.main, float)
        rgb = rgb * factor if factor <= 1 else rgb + (255 - rgb) * (factor - 1)
        return (int(rgb[0]), int(rgb[1]), int(rgb[2]))

    def contrast(self) -> RGB:
        """A light or a dark colour that contrasts with the main one, for stripes and marks."""
        return (240, 240, 236) if sum(self.main) < 420 else (45, 45, 50)

    def other(self) -> RGB:
        """A second colour: a shade of the main one, one in contrast to it, or a grey."""
        kind = int(self.rng.integers(4))
        if kind == 0:
            return self.contrast()
        if kind == 1:
            return self.grey()
        return self.shade(self.pick(0.45, 0.8) if kind == 2 else self.pick(1.2, 1.6))

    def grey(self) -> RGB:
        value = int(self.rng.integers(25, 215))
        return (
            value,
            min(value + int(self.rng.integers(8)), 255),
            min(value + int(self.rng.integers(12)), 255),
        )

    def pick(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)
