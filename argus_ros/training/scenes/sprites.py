"""Sprites: cut-out pictures of single objects, which scenes show in place of drawings; and banks of them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from argus_ros.training.scenes.drawings import KINDS
from argus_ros.training.scenes.palette import COLOURS


@dataclass(frozen=True)
class Sprite:
    """One object, cut out at its edges; kept as a lossless WebP, since a bank has thousands."""

    label: str
    colour: str
    model: str  #: what it was made from
    size: tuple[int, int]  #: width, height
    file: np.ndarray  #: (length,) uint8

    @classmethod
    def of(cls, label: str, colour: str, model: str, pixels: np.ndarray) -> Sprite:
        """From (height, width, 4) uint8: RGB times alpha, and alpha."""
        height, width = pixels.shape[:2]
        lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
        file = cv2.imencode(".webp", cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA), lossless)[1]
        return cls(label, colour, model, (width, height), file.ravel())

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.size[0] / self.size[1]

    def pixels(self) -> np.ndarray:
        """(height, width, 4) uint8: RGB times alpha, and alpha, so that resizing blends no backgrounds in."""
        decoded = cv2.imdecode(self.file, cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        pixels = cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA)
        pixels[pixels[..., 3] == 0] = 0  # the file may hold any colour where nothing shows
        return pixels


class Bank:
    """Sprites of every class; ``share`` of the objects of a scene are taken from it.

    Raises ValueError where there is no sprite of a class, or a colour has no name.
    """

    def __init__(self, sprites: Sequence[Sprite], split: str, share: float = 1.0) -> None:
        self.sprites = tuple(sprites)
        self.split = split
        self.share = share
        self._of = {label: [s for s in self.sprites if s.label == label] for label in KINDS}
        missing = [label for label, found in self._of.items() if not found]
        if missing:
            raise ValueError(f"no sprite of {', '.join(missing)}; a bank has some of every class")
        strange = {s.colour for s in self.sprites} - set(COLOURS)
        if strange:
            raise ValueError(f"sprites in {', '.join(sorted(strange))}; take {', '.join(COLOURS)}")

    def draw(self, rng: np.random.Generator, label: str) -> Sprite | None:
        """A sprite of a class in any colour, or None where the object is to be drawn."""
        if rng.random() >= self.share:
            return None
        of_label = self._of[label]
        return of_label[int(rng.integers(len(of_label)))]

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as out:
            np.savez(
                out,
                split=np.array(self.split),
                names=np.array([(s.label, s.colour, s.model) for s in self.sprites]),
                sizes=np.array([s.size for s in self.sprites]),
                ends=np.cumsum([len(s.file) for s in self.sprites]),
                data=np.concatenate([s.file for s in self.sprites]),
            )


def load(file: Path, share: float = 1.0) -> Bank:
    """The bank in a file. Raises ValueError where there is none."""
    try:
        with np.load(file) as stored:
            names, sizes, split = stored["names"].tolist(), stored["sizes"].tolist(), str(stored["split"])
            files = np.split(stored["data"], stored["ends"][:-1])
    except (OSError, EOFError, KeyError, ValueError, AttributeError, zipfile.BadZipFile):
        raise ValueError(f"{file} is no bank of sprites; `argus lit --out {file}` makes one") from None
    sprites = [
        Sprite(label, colour, model, (width, height), data)
        for (label, colour, model), (width, height), data in zip(names, sizes, files, strict=True)
    ]
    return Bank(sprites, split, share)


def paste(
    image: np.ndarray, pixels: np.ndarray, corner: tuple[int, int], gain: float = 1.0
) -> tuple[int, int, int, int]:
    """Blend a sprite's pixels in place, its top left at ``corner`` (x, y); returns the box, clipped."""
    height, width = image.shape[:2]
    x, y = corner
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + pixels.shape[1], width), min(y + pixels.shape[0], height)
    seen = pixels[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32)
    behind = image[y0:y1, x0:x1] * (1 - seen[..., 3:] / 255)
    image[y0:y1, x0:x1] = np.clip(behind + seen[..., :3] * gain + 0.5, 0, 255).astype(np.uint8)
    return x0, y0, x1, y1
