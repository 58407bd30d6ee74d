"""Pictures with boxes in COCO's format: ``instances.json`` and a folder of pictures."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from argus_ros.core.checkpoint import Vocabulary
from argus_ros.training import augmentation
from argus_ros.training.examples import Example, Examples, draw_task
from argus_ros.training.scenes import Scene, Thing, clip

#: In one answer at most.
MOST_OBJECTS = 32
#: How often each kind of view is shown.
MOSAIC, PASTE, CROP, FLIP = 0.25, 0.4, 0.6, 0.5


class CocoError(ValueError):
    """A file that is no COCO data, or pictures that are not there."""


@dataclass(frozen=True)
class Picture:
    """One picture's file and what is on it, largest first; ``crowds`` are regions nobody has counted."""

    file: Path
    things: tuple[Thing, ...]
    crowds: tuple[Thing, ...] = ()

    def load(self) -> Scene:
        """Read the picture. Raises CocoError."""
        image = cv2.imread(str(self.file), cv2.IMREAD_COLOR)
        if image is None:
            raise CocoError(f"{self.file} is missing or no picture")
        return Scene(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self.things)


@dataclass(frozen=True)
class Data:
    """Pictures and the names of their categories, in the file's order."""

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]


def read(instances: Path, images: Path, only: str = "", leave_out: str = "") -> Data:
    """Read COCO data; of the pictures those whose file name ``only`` is found in, and ``leave_out`` is not.

    Both are regular expressions. Boxes are clipped to their picture, and empty ones left out. Raises
    CocoError with what is wrong and where.
    """
    try:
        data = json.loads(instances.read_text())
        names = {c["id"]: str(c["name"]).strip().lower() for c in data["categories"]}
        things: defaultdict[int, list[Thing]] = defaultdict(list)
        crowds: defaultdict[int, list[Thing]] = defaultdict(list)
        sizes = {i["id"]: (int(i["width"]), int(i["height"])) for i in data["images"]}
        for a in data["annotations"]:
            x, y, w, h = map(float, a["bbox"])
            box = clip((x, y, x + w, y + h), *sizes[a["image_id"]])
            if box[0] < box[2] and box[1] < box[3]:
                chosen = crowds if a.get("iscrowd") else things
                chosen[a["image_id"]].append(Thing(names[a["category_id"]], "", box))
        files = {i["id"]: str(i["file_name"]) for i in data["images"]}
        wanted = [
            i
            for i, name in files.items()
            if re.search(only, name) and not (leave_out and re.search(leave_out, name))
        ]
    except OSError as error:
        raise CocoError(f"{instances} cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CocoError(f"{instances} is no COCO instances file: {error!r}") from None
    except re.error as error:
        raise CocoError(f"not a regular expression: {error}") from None
    if not wanted:
        raise CocoError(f"{instances} has {len(files)} pictures, of which none is chosen")
    pictures = [
        Picture(images / files[i], tuple(sorted(things[i], key=lambda t: -t.area)), tuple(crowds[i]))
        for i in wanted
    ]
    missing = [p.file for p in pictures if not p.file.is_file()]
    if missing:
        raise CocoError(f"{len(missing)} of {len(pictures)} pictures are missing, the first {missing[0]}")
    return Data(tuple(names.values()), tuple(pictures))


class CocoSource:
    """Training examples from COCO data: example ``index`` is a function of the seed and its number alone."""

    def __init__(
        self, make: Examples, vocabulary: Vocabulary, data: Data, seed: int, min_side: float = 0.0
    ) -> None:
        self._make = make
        self._vocabulary = vocabulary
        self._pictures = data.pictures
        self._seed = seed
        self._min_side = min_side
        self._chances = _chances(data)
        # What can be pasted, by class, so that the rare ones are shown as often as the common ones.
        objects = [(p, t) for p in data.pictures for t in p.things if t.area >= max(min_side, 16) ** 2]
        self._objects = [
            found for label in data.classes if (found := [(p, t) for p, t in objects if t.label == label])
        ]

    def example(self, index: int) -> Example:
        rng = np.random.default_rng((self._seed, 7, index))
        scene = self._view(rng)
        return self._make.make(scene, draw_task(rng, self._vocabulary, scene.things))

    def _view(self, rng: np.random.Generator) -> Scene:
        picture = self._pick(rng)
        scene = picture.load()
        height, width = scene.image.shape[:2]
        least = self._min_side / math.sqrt(width * height)  # of a view as large as the picture
        if rng.random() < MOSAIC:
            others = [self._pick(rng).load() for _ in range(3)]
            scene = augmentation.mosaic([scene, *others], rng, width, height)
        elif rng.random() < CROP:
            scene = augmentation.random_crop(scene, rng)
        if self._objects and rng.random() < PASTE:
            for _ in range(int(rng.integers(1, 4))):
                pool = self._objects[int(rng.integers(len(self._objects)))]
                source, thing = pool[int(rng.integers(len(pool)))]
                scene = augmentation.pasted(scene, source.load(), thing, rng)
        if rng.random() < FLIP:
            scene = augmentation.flipped(scene)
        height, width = scene.image.shape[:2]
        shown = [t for t in scene.things if t.area >= least**2 * width * height]
        image = augmentation.recoloured(np.ascontiguousarray(scene.image), rng)
        return Scene(image, tuple(sorted(shown, key=lambda t: -t.area)))

    def _pick(self, rng: np.random.Generator) -> Picture:
        return self._pictures[int(np.searchsorted(self._chances, rng.random()))]


def _chances(data: Data) -> np.ndarray:
    """(pictures,) cumulative: pictures with a rare class come up to three times as often."""
    labels = [{t.label for t in p.things} for p in data.pictures]
    count = Counter(label for row in labels for label in row)
    most = max(count.values(), default=1)
    weight = np.array([max((min((most / count[c]) ** 0.5, 3.0) for c in row), default=1.0) for row in labels])
    total = weight.cumsum()
    return total / total[-1]


def vocabulary(data: Data, bins: int, min_side: float = 0.0) -> Vocabulary:
    """What a model that is trained on the data can say; as many objects as the fullest picture has."""
    counts = [sum(t.area >= min_side**2 for t in p.things) for p in data.pictures]
    return Vocabulary(("detect", "ask"), bins, data.classes, max_objects=min(max(*counts, 1), MOST_OBJECTS))
