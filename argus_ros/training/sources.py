"""Numbered training examples: of synthetic scenes, or of several sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from argus_ros.core.checkpoint import Vocabulary
from argus_ros.training import scenes
from argus_ros.training.examples import Example, Examples, draw_task
from argus_ros.training.scenes import Scene
from argus_ros.training.scenes.backgrounds import load_photographs
from argus_ros.training.scenes.sprites import Bank as SpriteBank

#: Objects in a scene and in an answer.
MOST = 8


class Source(Protocol):
    """Numbered training examples."""

    def example(self, index: int) -> Example: ...


class SceneSource:
    """Synthetic scenes; for a ``novice`` the most objects grows from two with the sample's number."""

    def __init__(
        self,
        make: Examples,
        vocabulary: Vocabulary,
        seed: int,
        tile: int,
        novice: bool = True,
        repeat: int = 0,
        bank: SpriteBank | None = None,
    ) -> None:
        self._make = make
        self._vocabulary = vocabulary
        self._first = seed * 100_000_000
        self._tile = tile
        self._novice = novice
        self._repeat = repeat
        self._bank = bank
        self._kept: dict[int, Scene] = {}  # of scenes that are repeated
        self._photographs = load_photographs()

    def example(self, index: int) -> Example:
        scene = self.scene(index)
        rng = np.random.default_rng((self._first, index))
        return self._make.make(scene, draw_task(rng, self._vocabulary, scene))

    def scene(self, index: int) -> Scene:
        """What sample ``index`` shows."""
        if not self._repeat:
            return self._render(index)
        index %= self._repeat
        if index not in self._kept:
            self._kept[index] = self._render(index)
        return self._kept[index]

    def _render(self, index: int) -> Scene:
        rng = np.random.default_rng((self._first, index, 1))
        sizes = ((1.5, 1.125), (1.6, 0.9), (1.25, 1.25), (1.125, 1.5))
        width, height = sizes[int(rng.choice(4, p=(0.5, 0.25, 0.15, 0.1)))]
        most = min(MOST, 2 + index // 12_000) if self._novice else MOST
        size = (round(width * self._tile), round(height * self._tile))
        number = self._first + index
        return scenes.render(number, "train", size, (0, most), self._photographs, self._bank)


class MixedSource:
    """Training examples of several sources, each as often as its weight says."""

    def __init__(self, sources: Sequence[tuple[float, Source]], seed: int) -> None:
        total = np.cumsum([weight for weight, _ in sources])
        self._chances = total / total[-1]
        self._sources = [source for _, source in sources]
        self._seed = seed

    def example(self, index: int) -> Example:
        rng = np.random.default_rng((self._seed, 11, index))
        return self._sources[int(np.searchsorted(self._chances, rng.random()))].example(index)


def scene_vocabulary() -> Vocabulary:
    """What a model trained on the synthetic scenes can say."""
    tasks = ("detect", "dense_caption", "ask")
    return Vocabulary(
        tasks, bins=128, classes=scenes.CLASSES, colours=tuple(scenes.COLOURS), max_objects=MOST
    )


def joined(one: Vocabulary, other: Vocabulary) -> Vocabulary:
    """What a model can say that learns both; colours are of those objects whose colour is known."""
    return replace(
        one,
        tasks=tuple(dict.fromkeys((*one.tasks, *other.tasks))),
        classes=tuple(dict.fromkeys((*one.classes, *other.classes))),
        colours=tuple(dict.fromkeys((*one.colours, *other.colours))),
        max_objects=max(one.max_objects, other.max_objects),
    )
