"""What all formats share: a question, a box that was read, and what makes one valid."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from argus_ros.core.types import Task

#: Most characters of an answer that are read.
LONGEST = 1 << 15
#: A box may leave the picture by this share of its side, as a rounded one does; it is clipped.
TOLERANCE = 0.01
#: Most characters of a label.
LABEL = 120


@dataclass(frozen=True)
class Question:
    """One thing to ask: ``text`` in a chat or, for models without chats, as their whole prompt."""

    text: str
    subject: str = ""  #: what every box of the answer is, where the question is about one thing


@dataclass(frozen=True)
class Sizes:
    """Pixels of the source picture, and of the resized one that the model was shown (0: unknown)."""

    width: int
    height: int
    seen_width: int = 0
    seen_height: int = 0


@dataclass(frozen=True)
class Thing:
    """A valid box: ``x_min < x_max``, ``y_min < y_max``, inside the source picture, in its pixels."""

    label: str
    box: tuple[float, float, float, float]
    span: tuple[int, int]  #: characters of the answer that say so
    description: str = ""


@dataclass
class Reading:
    """What was read of one answer."""

    things: list[Thing] = field(default_factory=list)
    dropped: int = 0  #: boxes, or beginnings of one, that are none: incomplete, empty, outside, not asked for


class Constraint(Protocol):
    """What the next token may be, by its column among ``tokens``; never nothing before the end."""

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
    """What a constraint is made from: a tokenizer."""

    ends: tuple[int, ...]
    words: tuple[int, ...]  #: ordinary words

    def __hash__(self) -> int: ...

    def token(self, text: str) -> int:
        """Id of a token. Raises CheckpointError where there is none."""

    def encode(self, text: str) -> list[int]: ...


class Format(Protocol):
    """One family's way."""

    chat: bool  #: whether a question goes through the chat template

    def questions(self, task: Task) -> Sequence[Question]: ...

    def read(self, answer: str, sizes: Sizes) -> Iterator[Candidate]:
        """Boxes in the order of the answer, and what only begins like one. Never raises."""

    def constraint(self, task: Task, words: Words, max_objects: int) -> Constraint | None:
        """For formats whose places are tokens of their own."""

    def schema(self, task: Task) -> dict[str, Any] | None:
        """JSON schema of the answer to a structured task, for formats that are JSON."""


@dataclass(frozen=True)
class Candidate:
    """A box as written: ``x0, y0, x1, y1`` as shares of the picture; None where it cannot be read."""

    label: str
    box: Sequence[float] | None
    span: tuple[int, int]


def read(format: Format, task: Task, question: Question, answer: str, sizes: Sizes) -> Reading:
    """The valid boxes of an answer, each once."""
    reading, known = Reading(), set()
    for candidate in format.read(answer[:LONGEST], sizes):
        box = _valid(candidate.box, sizes)
        named = _named(candidate.label, task, question)
        if box is None or named is None:
            reading.dropped += 1
        elif (named, box) not in known:
            known.add((named, box))
            reading.things.append(Thing(named[0], box, candidate.span, named[1]))
    return reading


def _valid(box: Sequence[float] | None, sizes: Sizes) -> tuple[float, float, float, float] | None:
    """In pixels of the source picture; None for what is no box in it."""
    if box is None or len(box) != 4 or not all(math.isfinite(edge) for edge in box):
        return None
    if not all(-TOLERANCE <= edge <= 1 + TOLERANCE for edge in box):
        return None
    x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) for edge in box)
    x0, x1, y0, y1 = x0 * sizes.width, x1 * sizes.width, y0 * sizes.height, y1 * sizes.height
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _named(label: str, task: Task, question: Question) -> tuple[str, str] | None:
    """Label and description: what was asked for is the label, in its spelling. None for something else."""
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
    """The numbers in a piece of text; absurdly long ones are cut off."""
    return [float(n[:32]) for n in re.findall(r"-?\d+(?:\.\d+)?", text)]


def label_before(labels: Sequence[re.Match[str]], place: int) -> str:
    """The text of the last label that ends before a place of the answer; "" where there is none."""
    before = [label for label in labels if label.end() <= place]
    return before[-1][1] if before else ""


def scaled(values: Iterable[float], x: float, y: float) -> list[float] | None:
    """Four numbers, x and y in turn, over their scales; None unless they are four."""
    found = list(values)
    return [v / s for v, s in zip(found, (x, y, x, y), strict=True)] if len(found) == 4 else None


def listed(classes: Sequence[str]) -> str:
    return ", ".join(classes)


def caption_or_question(task: Task) -> Question:
    """What free-text tasks ask."""
    return Question(task.prompt.strip() if task.name == "ask" else CAPTION)


#: What a caption is asked for by.
CAPTION = "Describe this image briefly."
