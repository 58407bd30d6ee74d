"""From scenes to training examples: the picture as the camera path prepares it, the words, the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from argus_ros.core.checkpoint import Vocabulary
from argus_ros.core.families import IDEFICS3
from argus_ros.core.image import Pixels
from argus_ros.core.preparation import scale
from argus_ros.core.types import Task
from argus_ros.training.scenes import Scene, SceneObject
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.formats.tokens import lay_out

NO_BIN = -1.0


@dataclass(frozen=True)
class Example:
    """One picture with one question and its answer.

    ``position`` holds, for every token that is a location, the exact coordinate in bins, else -1.
    ``boxes`` (n, 4) in [0, 1] with ``labels`` and ``colours`` (n,) are for the auxiliary loss.

    Where objects may be without a box, the answer does not say that they are absent: tokens of ``untold``
    begin the names of classes that the scene is not complete for, and are not compared with the right token.
    """

    image: np.ndarray  #: (tile, tile, 3) uint8 RGB
    tokens: np.ndarray  #: (length,) int64: prompt with image placeholders, then the answer
    answer_start: int  #: index of the first answer token
    position: np.ndarray  #: (length,) float32
    weight: np.ndarray  #: (length,) float32: of each token in the loss
    untold: np.ndarray  #: (n,) int64 token ids
    boxes: np.ndarray
    labels: np.ndarray
    colours: np.ndarray
    weights: np.ndarray  #: (n,) float32: of each box
    complete: np.ndarray  #: (classes,) bool: every object of this class has a box


class Examples:
    """Makes examples for one checkpoint's vocabulary.

    With ``presume_absent`` an answer says that an object without a box is absent, even where the scene is not
    complete for its class: no token is ``untold``.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        vocabulary: Vocabulary,
        tile: int,
        image_tokens: int,
        presume_absent: bool = False,
    ) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._ids = tokenizer.get_vocab()
        self._vocabulary = vocabulary
        self._tile = tile
        self._image_tokens = image_tokens
        self._presume_absent = presume_absent
        self._first_bin = self._ids[prompts.location_token(0)]

    def make(self, scene: Scene, task: Task) -> Example:
        """The example of a scene and a task; an ``ask`` task gets its answer from the truth."""
        height, width = scene.image.shape[:2]
        size = np.array([width, height, width, height], np.float32)
        boxes = np.array([t.box for t in scene.objects], np.float32).reshape(-1, 4) / size
        text = prompts.full_text(task, self._vocabulary)
        tokens = [*lay_out(self._tokenizer, text, IDEFICS3, 0, 0, self._image_tokens).ids]
        start = len(tokens)
        position, weight = [NO_BIN] * start, [1.0] * start
        for words, box, importance in self._answer(scene.objects, boxes, task):
            ids = self._words(words)
            tokens += ids
            position += [NO_BIN] * len(ids)
            if box is not None:
                bins = self._bins(box)
                tokens += [self._first_bin + round(b) for b in bins]
                position += bins
            weight += [importance] * (len(tokens) - len(weight))
        tokens.append(self._ids[prompts.END])
        position.append(NO_BIN)
        weight.append(1.0)
        image = scene.image
        if image.shape[:2] != (self._tile, self._tile):
            image = scale(Pixels(image, None), self._tile, self._tile)
        classes, colours = self._vocabulary.classes, self._vocabulary.colours
        return Example(
            image=image,
            tokens=np.array(tokens),
            answer_start=start,
            position=np.array(position, np.float32),
            weight=np.array(weight, np.float32),
            untold=self._untold(scene, task),
            boxes=boxes,
            labels=np.array([classes.index(t.label) for t in scene.objects], np.int64),
            colours=np.array([colours.index(t.colour) if t.colour else -1 for t in scene.objects], np.int64),
            weights=np.array([t.weight for t in scene.objects], np.float32),
            complete=np.array([scene.complete is None or c in scene.complete for c in classes], bool),
        )

    def _untold(self, scene: Scene, task: Task) -> np.ndarray:
        """First tokens of the asked classes that the scene is not complete for, and no complete class has."""
        if task.name != "detect" or scene.complete is None or self._presume_absent:
            return np.zeros(0, np.int64)
        first = {c: self._words(c)[0] for c in prompts.asked_classes(task, self._vocabulary)}
        told = {token for c, token in first.items() if c in scene.complete}
        return np.array(sorted(set(first.values()) - told), np.int64)

    def _words(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _bins(self, box: np.ndarray) -> list[float]:
        """Coordinates in bins; never an empty box, never the last bin as a minimum."""
        last = self._vocabulary.bins - 1
        low = np.minimum(box[:2] * last, last - 1)
        high = np.maximum(box[2:] * last, np.round(low) + 1)
        return [float(v) for v in (*low, *high)]

    def _answer(
        self, objects: Sequence[SceneObject], boxes: np.ndarray, task: Task
    ) -> list[tuple[str, np.ndarray | None, float]]:
        """Words, box and weight of each part of the answer."""
        if task.name == "ask":
            return [(answer_to(task.prompt, objects), None, 1.0)]
        asked = prompts.asked_classes(task, self._vocabulary)
        pairs = [
            (t, b) for t, b in zip(objects, boxes, strict=True) if task.name != "detect" or t.label in asked
        ]
        limit = self._vocabulary.max_objects
        colour = task.name == "dense_caption"
        return [(f"{t.colour} {t.label}" if colour else t.label, b, t.weight) for t, b in pairs[:limit]]


def answer_to(question: str, objects: Sequence[SceneObject]) -> str:
    """Answer of ``how many <plural> are there`` and ``is there a <colour> <class>``, from the truth."""
    words = question.removesuffix("?").split()
    if words[:2] == ["how", "many"]:
        noun = " ".join(words[2:-2])
        return str(min(sum(prompts.plural(t.label) == noun for t in objects), 9))
    noun = " ".join(words[3:])
    return "yes" if any(noun in (t.label, f"{t.colour} {t.label}") for t in objects) else "no"


def draw_task(rng: np.random.Generator, vocabulary: Vocabulary, scene: Scene) -> Task:
    """A task for a scene: four in ten times all classes, else a subset, a description or a question.

    Descriptions are asked for where colours are known, questions about classes that the scene is
    complete for.
    """
    objects = scene.objects
    coloured = bool(vocabulary.colours) and all(t.colour for t in objects)
    told = [c for c in vocabulary.classes if scene.complete is None or c in scene.complete]
    kind = rng.choice(4, p=(0.4, 0.15, 0.2, 0.25))
    name = ("detect", "detect", "dense_caption", "ask")[kind]
    if (
        kind == 0
        or name not in vocabulary.tasks
        or (name == "dense_caption" and not coloured)
        or (name == "ask" and not told)
    ):
        return Task("detect", vocabulary.classes)
    if kind == 2:
        return Task("dense_caption")
    if kind == 1:
        known = [*told, *dict.fromkeys(t.label for t in objects if t.label not in told)]
        chosen = set(rng.choice(known, int(rng.integers(1, max(len(known), 2))))) if known else set()
        if objects and rng.random() < 0.7:
            chosen.add(objects[int(rng.integers(len(objects)))].label)
        if len(told) < len(vocabulary.classes) and (rng.random() < 0.3 or not chosen):
            chosen.update(rng.choice(vocabulary.classes, int(rng.integers(1, len(vocabulary.classes)))))
        return Task("detect", tuple(c for c in vocabulary.classes if c in chosen))
    seen = [t for t in objects if t.label in told]
    item = seen[int(rng.integers(len(seen)))] if seen and rng.random() < 0.6 else None
    label = item.label if item else str(rng.choice(told))
    if rng.random() < 0.5:
        return Task("ask", prompt=f"how many {prompts.plural(label)} are there")
    if not coloured:
        return Task("ask", prompt=f"is there a {label}")
    colour = item.colour if item and rng.random() < 0.6 else str(rng.choice(vocabulary.colours))
    return Task("ask", prompt=f"is there a {colour} {label}")
