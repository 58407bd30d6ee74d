"""Types shared by all formats (question, box, constraint), and the validation of boxes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from argus_ros.core.types import Task

#: Maximum number of characters of an answer that are read.
LONGEST = 1 << 15
#: A box may exceed the picture by this fraction of its side, as a rounded one does; it is clipped.
TOLERANCE = 0.01
#: Maximum number of characters in a label.
LABEL = 120


@dataclass(frozen=True)
class Question:
    """A question: ``text`` in a chat or, for models without a chat, as the whole prompt."""

    text: str
    subject: str = ""  #: label of every box, where the question is about one object


@dataclass(frozen=True)
class Sizes:
    """Pixels of the source picture, and of the resized one that the model got (0: unknown)."""

    width: int
    height: int
    seen_width: int = 0
    seen_height: int = 0


@dataclass(frozen=True)
class Found:
    """A valid box: ``x_min < x_max``, ``y_min < y_max``, inside the source picture, in its pixels."""

    label: str
    box: tuple[float, float, float, float]
    span: tuple[int, int]  #: its characters in the answer
    description: str = ""


@dataclass
class Reading:
    """The valid boxes of an answer, and the number of invalid ones."""

    found: list[Found] = field(default_factory=list)
    dropped: int = 0  #: invalid boxes: incomplete, empty, outside, not requested


class Constraint(Protocol):
    """The tokens that may come next, by their column in ``tokens``; never none before the end."""

    @property
    def tokens(self) -> np.ndarray:
        """(columns,) token ids."""

    @property
    def column(self) -> dict[int, int]:
        """Column of a token id."""

    @property
    def done(self) -> bool: ...

    def allowed(self) -> np.ndarray:
        """(columns,) bool."""

    def advance(self, column: int) -> None: ...


class Words(Protocol):
    """The tokenizer that a constraint is built with."""

    ends: tuple[int, ...]
    words: tuple[int, ...]  #: ordinary words

    def __hash__(self) -> int: ...

    def token(self, text: str) -> int:
        """Id of a token. Raises CheckpointError where it is missing."""

    def encode(self, text: str) -> list[int]: ...


class Format(Protocol):
    """The questions and the parser of one family."""

    chat: bool  #: whether a question goes through the chat template

    def questions(self, task: Task) -> Sequence[Question]: ...

    def read(self, answer: str, sizes: Sizes) -> Iterator[Candidate]:
        """Boxes in the order of the answer, with incomplete ones. Never raises."""

    def constraint(self, task: Task, words: Words, max_objects: int) -> Constraint | None:
        """The constraint of formats whose coordinates are special tokens; None for others."""

    def schema(self, task: Task) -> dict[str, Any] | None:
        """JSON schema of a structured task's answer, for formats in JSON; None for others."""


@dataclass(frozen=True)
class Candidate:
    """A box as written: ``x0, y0, x1, y1`` in fractions of the picture; None where it is unreadable."""

    label: str
    box: Sequence[float] | None
    span: tuple[int, int]


def read(format: Format, task: Task, question: Question, answer: str, sizes: Sizes) -> Reading:
    """The valid boxes of an answer, without duplicates."""
    reading, known = Reading(), set()
    for candidate in format.read(answer[:LONGEST], sizes):
        box = _valid(candidate.box, sizes)
        named = _named(candidate.label, task, question)
        if box is None or named is None:
            reading.dropped += 1
        elif (named, box) not in known:
            known.add((named, box))
            reading.found.append(Found(named[0], box, candidate.span, named[1]))
    return reading


def _valid(box: Sequence[float] | None, sizes: Sizes) -> tuple[float, float, float, float] | None:
    """The box in pixels of the source picture; None for an invalid one."""
    if box is None or len(box) != 4 or not all(math.isfinite(edge) for edge in box):
        return None
    if not all(-TOLERANCE <= edge <= 1 + TOLERANCE for edge in box):
        return None
    x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) for edge in box)
    x0, x1, y0, y1 = x0 * sizes.width, x1 * sizes.width, y0 * sizes.height, y1 * sizes.height
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _named(label: str, task: Task, question: Question) -> tuple[str, str] | None:
    """Label, spelt as in the request, and description; None for an object that was not requested."""
    said = " ".join(label.split())[:LABEL]
    if question.subject:
        return question.subject, said if said.casefold() != question.subject.casefold() else ""
    if task.name == "detect" and task.classes:
        words = f" {said.casefold()} "
        inside = [c for c in task.classes if f" {c.casefold()} " in words]
        plural = [c for c in task.classes if words in (f" {c.casefold()}s ", f" {c.casefold()}es ")]
        found = max(inside or plural, key=len, default=None)
        return (found, said if said.casefold() != found.casefold() else "") if found else None
    if task.name == "dense_caption" and said:
        return said, said
    return (said, "") if said else None


def numbers(text: str) -> list[float]:
    """The numbers in a text; very long ones are truncated."""
    return [float(n[:32]) for n in re.findall(r"-?\d+(?:\.\d+)?", text)]


def label_before(labels: Sequence[re.Match[str]], place: int) -> str:
    """The text of the last label that ends before position ``place``; "" where there is none."""
    before = [label for label in labels if label.end() <= place]
    return before[-1][1] if before else ""


def scaled(values: Iterable[float], x: float, y: float) -> list[float] | None:
    """Four numbers, alternately x and y, divided by their scales; None unless there are four."""
    found = list(values)
    return [v / s for v, s in zip(found, (x, y, x, y), strict=True)] if len(found) == 4 else None


def listed(classes: Sequence[str]) -> str:
    return ", ".join(classes)


def caption_or_question(task: Task) -> Question:
    """The question of a free-text task."""
    return Question(task.prompt.strip() if task.name == "ask" else CAPTION)


#: The question for a caption.
CAPTION = "Describe this image briefly."
