"""Pictures with boxes in COCO's format: ``instances.json`` and a folder of pictures."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2

from argus_ros.training.scenes import Scene, Thing, clip


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


def read(instances: Path, images: Path, only: str = "", holdout: str = "") -> Data:
    """Read COCO data; of the pictures those whose file name ``only`` is found in, and ``holdout`` is not.

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
            if re.search(only, name) and not (holdout and re.search(holdout, name))
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
