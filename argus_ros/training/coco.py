"""Pictures with boxes in COCO's format: ``instances.json`` and a folder of pictures.

Beside COCO's own keys, three say which categories of a picture are completely labelled:

``exhaustive_category_ids``       of these every object has a box; of others there may be objects without one
``neg_category_ids``              (LVIS) of these there is no object in the picture
``not_exhaustive_category_ids``   (LVIS) these have boxes, and there may be more objects without one

With LVIS's keys a picture is complete for the categories that it has boxes of, less the last, and for
those that it has none of. Without any of the keys it is complete for all. A ``score`` of an annotation (of
a detector in place of a person) is the weight of that box in training.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from PIL import Image as Pillow

from argus_ros.core.checkpoint import Vocabulary
from argus_ros.core.section import MALFORMED
from argus_ros.training import augmentation
from argus_ros.training.examples import Example, Examples, draw_task
from argus_ros.training.scenes import Scene, SceneObject, clip

T = TypeVar("T")

#: In one answer at most.
MOST_OBJECTS = 32
#: How often each kind of view is shown.
MOSAIC, PASTE, CROP, FLIP = 0.25, 0.4, 0.6, 0.5
#: EXIF's tag of how a picture is to be turned; from 5 on width and height are exchanged.
ORIENTATION = 0x0112


class CocoError(ValueError):
    """A file that is no COCO data, or pictures that are not there."""


@dataclass(frozen=True)
class Files:
    """Where a set of COCO data is, and how often it is shown beside other sets."""

    instances: Path
    images: Path
    weight: float = 1.0


@dataclass(frozen=True)
class Picture:
    """One picture's file and what is on it, largest first; ``crowds`` are regions nobody has counted."""

    file: Path
    objects: tuple[SceneObject, ...]
    crowds: tuple[SceneObject, ...] = ()
    complete: frozenset[str] | None = None  #: as in Scene
    name: str = ""  #: of the file, as instances.json has it
    as_stored: bool = False  #: boxes are of the picture before it is turned as its EXIF data says

    def load(self) -> Scene:
        """Read the picture. Raises CocoError."""
        how = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if self.as_stored else 0)
        image = cv2.imread(str(self.file), how)
        if image is None:
            raise CocoError(f"{self.file} is missing or no picture")
        return Scene(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self.objects, self.complete)


@dataclass(frozen=True)
class Data:
    """Pictures and the names of their categories, in the file's order."""

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    #: Annotations that were left out, for people: "annotation 7 of a.jpg: its box has no area"
    left_out: tuple[str, ...] = ()


def read(
    instances: Path, images: Path, only: str = "", leave_out: str = "", classes: Collection[str] = ()
) -> Data:
    """Read COCO data; of the pictures those whose file name ``only`` is found in, and ``leave_out`` is not.

    Both are regular expressions. With ``classes`` other categories are left out. Boxes are clipped to their
    picture; what has no area in it is left out and listed. Raises CocoError with what is wrong and where.
    """
    try:
        data = json.loads(instances.read_text())
        names = _names(data["categories"], instances)
        entries = {i["id"]: i for i in data["images"]}
        objects, crowds, left_out = _objects(data["annotations"], entries, names, instances)
        wanted = [
            i
            for i, entry in entries.items()
            if re.search(only, entry["file_name"])
            and not (leave_out and re.search(leave_out, entry["file_name"]))
        ]
        complete = {i: _complete(entries[i], names, objects[i], instances) for i in wanted}
    except OSError as error:
        raise CocoError(f"{instances} cannot be read: {error}") from None
    except re.error as error:
        raise CocoError(f"not a regular expression: {error}") from None
    except CocoError:
        raise
    except MALFORMED as error:
        raise CocoError(f"{instances} is no COCO instances file: {error!r}") from None
    if not wanted:
        raise CocoError(f"{instances} has {len(entries)} pictures, of which none is chosen")
    files = {i: images / entries[i]["file_name"] for i in wanted}
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        raise CocoError(f"{len(missing)} of {len(files)} pictures are missing, the first {missing[0]}")
    pictures = [
        Picture(
            file,
            tuple(sorted(objects[i], key=lambda t: -t.area)),
            tuple(crowds[i]),
            complete[i],
            entries[i]["file_name"],
            _as_stored(file, i, int(entries[i]["width"]), int(entries[i]["height"])),
        )
        for i, file in files.items()
    ]
    found = Data(tuple(names.values()), tuple(pictures), tuple(left_out))
    return restricted(found, classes) if classes else found


def restricted(data: Data, classes: Collection[str]) -> Data:
    """The data as if there were no categories but ``classes``, in the data's order."""
    kept = tuple(c for c in data.classes if c in classes)

    def of(picture: Picture) -> Picture:
        return replace(
            picture,
            objects=tuple(t for t in picture.objects if t.label in kept),
            crowds=tuple(t for t in picture.crowds if t.label in kept),
            complete=None if picture.complete is None else picture.complete & set(kept),
        )

    return replace(data, classes=kept, pictures=tuple(map(of, data.pictures)))


def _names(categories: Sequence[Mapping[str, Any]], instances: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for category in categories:
        name = " ".join(str(category["name"]).lower().split())
        if name in names.values() or category["id"] in names:
            raise CocoError(f"{instances}: category {category['id']} ({name}) is there twice")
        names[category["id"]] = name
    return names


def _objects(
    annotations: Sequence[Mapping[str, Any]],
    entries: Mapping[int, Mapping[str, Any]],
    names: Mapping[int, str],
    instances: Path,
) -> tuple[dict[int, list[SceneObject]], dict[int, list[SceneObject]], list[str]]:
    """Objects and crowds by picture, and which annotations have no box in their picture."""
    objects: defaultdict[int, list[SceneObject]] = defaultdict(list)
    crowds: defaultdict[int, list[SceneObject]] = defaultdict(list)
    left_out = []
    for number, a in enumerate(annotations):
        which = f"annotation {a.get('id', f'number {number}')}"
        entry, label = entries.get(a["image_id"]), names.get(a["category_id"])
        if entry is None:
            raise CocoError(f"{instances}: {which} is of picture {a['image_id']}, which is not listed")
        if label is None:
            raise CocoError(
                f"{instances}: {which} ({entry['file_name']}) is of category {a['category_id']}, "
                "which is not listed"
            )
        x, y, w, h = map(float, a["bbox"])
        score = float(a.get("score", 1.0))
        if not all(map(math.isfinite, (x, y, w, h, score))):
            raise CocoError(
                f"{instances}: {which} ({entry['file_name']}) has a box or score that is no number"
            )
        box = clip((x, y, x + w, y + h), int(entry["width"]), int(entry["height"]))
        if box[0] < box[2] and box[1] < box[3]:
            chosen = crowds if a.get("iscrowd") else objects
            chosen[a["image_id"]].append(SceneObject(label, "", box, min(max(score, 0.0), 1.0)))
        else:
            why = "lies outside the picture" if w > 0 and h > 0 else "has no area"
            left_out.append(f"{which} of {entry['file_name']}: its box {why}")
    return objects, crowds, left_out


def _complete(
    entry: Mapping[str, Any], names: Mapping[int, str], objects: Sequence[SceneObject], instances: Path
) -> frozenset[str] | None:
    """Classes that a picture is completely labelled for; None: all."""

    def named(key: str) -> set[str]:
        ids = entry.get(key, ())
        unknown = [i for i in ids if i not in names]
        if unknown:
            raise CocoError(
                f"{instances}: {key} of {entry['file_name']} holds {unknown[0]}, which is no category"
            )
        return {names[i] for i in ids}

    if "exhaustive_category_ids" in entry:
        return frozenset(named("exhaustive_category_ids"))
    if "neg_category_ids" in entry or "not_exhaustive_category_ids" in entry:
        there = {t.label for t in objects}
        return frozenset((there | named("neg_category_ids")) - named("not_exhaustive_category_ids"))
    return None


def _as_stored(file: Path, number: int, width: int, height: int) -> bool:
    """Whether boxes are of the picture as it is stored, before EXIF turns it. Raises CocoError."""
    try:
        with Pillow.open(file) as picture:
            stored, turn = picture.size, picture.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise CocoError(f"{file} is no picture that can be read: {error}") from None
    shown = stored[::-1] if turn >= 5 else stored
    if (width, height) == shown:
        return False
    if (width, height) == stored:
        return True
    raise CocoError(
        f"{file} has {shown[0]}x{shown[1]} pixels, its entry (id {number}) says {width}x{height}: "
        "the boxes would be in the wrong places"
    )


class CocoSource:
    """Training examples from COCO data: example ``index`` is a function of the seed and its number alone."""

    def __init__(
        self,
        make: Examples,
        vocabulary: Vocabulary,
        data: Data,
        seed: int,
        min_side: float = 0.0,
    ) -> None:
        self._make = make
        self._vocabulary = vocabulary
        self._pictures = data.pictures
        self._seed = seed
        self._min_side = min_side
        self._chances = cumulative_chances(data.pictures)
        # A mosaic is of pictures that are complete for the same classes, so that it is complete for them too.
        self._alike: defaultdict[frozenset[str] | None, list[Picture]] = defaultdict(list)
        for picture in data.pictures:
            self._alike[picture.complete].append(picture)
        self._chances_alike = {key: cumulative_chances(row) for key, row in self._alike.items()}
        # What can be pasted, by class. The rare ones are shown more often than they are, but not as often as
        # the common ones: the model would expect them everywhere.
        objects = [(p, t) for p in data.pictures for t in p.objects if t.area >= max(min_side, 16) ** 2]
        self._objects = [
            found for label in data.classes if (found := [(p, t) for p, t in objects if t.label == label])
        ]
        total = np.sqrt([len(found) for found in self._objects]).cumsum()
        self._chances_of_class = total / total[-1] if self._objects else total

    def example(self, index: int) -> Example:
        rng = np.random.default_rng((self._seed, 7, index))
        scene = self._view(rng)
        return self._make.make(scene, draw_task(rng, self._vocabulary, scene))

    def _view(self, rng: np.random.Generator) -> Scene:
        picture = _pick(rng, self._pictures, self._chances)
        scene = picture.load()
        height, width = scene.image.shape[:2]
        least = self._min_side / math.sqrt(width * height)  # of a view as large as the picture
        if rng.random() < MOSAIC:
            alike, chances = self._alike[picture.complete], self._chances_alike[picture.complete]
            others = [_pick(rng, alike, chances).load() for _ in range(3)]
            scene = augmentation.mosaic([scene, *others], rng, width, height)
        elif rng.random() < CROP:
            scene = augmentation.random_crop(scene, rng)
        if self._objects and rng.random() < PASTE:
            for _ in range(int(rng.integers(1, 4))):
                pool = _pick(rng, self._objects, self._chances_of_class)
                source, item = pool[int(rng.integers(len(pool)))]
                scene = augmentation.pasted(scene, source.load(), item, rng)
        if rng.random() < FLIP:
            scene = augmentation.flipped(scene)
        height, width = scene.image.shape[:2]
        shown = [t for t in scene.objects if t.area >= least**2 * width * height]
        image = augmentation.recoloured(np.ascontiguousarray(scene.image), rng)
        return replace(scene, image=image, objects=tuple(sorted(shown, key=lambda t: -t.area)))


def _pick(rng: np.random.Generator, among: Sequence[T], chances: np.ndarray) -> T:
    """One of ``among``, by their cumulative chances."""
    return among[int(np.searchsorted(chances, rng.random()))]


def cumulative_chances(pictures: Sequence[Picture]) -> np.ndarray:
    """(pictures,) cumulative: pictures with a rare class come up to three times as often."""
    labels = [{t.label for t in p.objects} for p in pictures]
    count = Counter(label for row in labels for label in row)
    most = max(count.values(), default=1)
    weight = np.array([max((min((most / count[c]) ** 0.5, 3.0) for c in row), default=1.0) for row in labels])
    total = weight.cumsum()
    return total / total[-1]


def vocabulary(data: Sequence[Data], bins: int, min_side: float = 0.0, most: int = 0) -> Vocabulary:
    """What a model that is trained on the data can say.

    At most ``most`` objects in an answer; 0: as many as the fullest picture has.
    """
    counts = [sum(t.area >= min_side**2 for t in p.objects) for d in data for p in d.pictures]
    classes = tuple(dict.fromkeys(c for d in data for c in d.classes))
    return Vocabulary(
        ("detect", "ask"), bins, classes, max_objects=most or min(max(*counts, 1), MOST_OBJECTS)
    )
