"""Kosmos-2: ``<phrase> cone</phrase><object><patch_index_0004><patch_index_0099></object>``.

A box is the cells of its upper left and its lower right corner on a grid of 32 x 32, row by row. Boxes of the
same phrase are separated by ``</delimiter_of_multi_objects/>``.

It has no chat: the phrase is in the prompt, and the answer follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from argus_ros.core.types import Task
from argus_ros.vlm.formats.reading import Candidate, Constraint, Question, Sizes, Words
from argus_ros.vlm.formats.text import Text

SIDE = 32
MORE = "</delimiter_of_multi_objects/>"

_PHRASE = re.compile(r"<phrase>([^<]*)</phrase>")
_OBJECT = re.compile(r"<object>(.*?)(?:</object>|$)", re.DOTALL)
_CELLS = re.compile(r"<patch_index_(\d{4})>")


class Kosmos2(Text):
    chat = False

    def questions(self, task: Task) -> Sequence[Question]:
        if task.name == "detect":
            return [Question(f"<grounding><phrase> {name}</phrase>", name) for name in task.classes]
        if task.name == "ground":
            phrase = task.prompt.strip()
            return [Question(f"<grounding><phrase> {phrase}</phrase>", phrase)]
        if task.name == "dense_caption":
            return [Question("<grounding> Describe this image in detail:")]
        return [Question(f"Question: {task.prompt.strip()} Answer:" if task.name == "ask" else "An image of")]

    def read(self, answer: str, sizes: Sizes) -> Iterator[Candidate]:
        phrases = list(_PHRASE.finditer(answer))
        for match in _OBJECT.finditer(answer):
            before = [phrase for phrase in phrases if phrase.end() <= match.start()]
            for part in match[1].split(MORE):
                cells = [int(n) for n in _CELLS.findall(part)]
                yield Candidate(before[-1][1].strip() if before else "", _box(cells), match.span())

    def constraint(self, task: Task, words: Words, max_objects: int) -> Constraint | None:
        if task.name not in ("detect", "ground"):
            return None
        return Places(words, max_objects)


def _box(cells: Sequence[int]) -> list[float] | None:
    """Corners at the centres of their cells, as in the model's processor; a single row or column is whole."""
    if len(cells) != 2 or max(cells) >= SIDE * SIDE:
        return None
    (y0, x0), (y1, x1) = (divmod(cell, SIDE) for cell in cells)
    if x1 < x0 or y1 < y0:
        return None
    thin = x0 == x1 or y0 == y1
    low, high = (0.0, 1.0) if thin else (0.5, 0.5)
    return [(x0 + low) / SIDE, (y0 + low) / SIDE, (x1 + high) / SIDE, (y1 + high) / SIDE]


class Places:
    """``<object>``, pairs of cells (the second not left of or above the first), ``</object>``, end."""

    OPEN, FIRST, SECOND, NEXT, END, DONE = range(6)

    def __init__(self, words: Words, max_objects: int) -> None:
        cells = [words.token(f"<patch_index_{i:04d}>") for i in range(SIDE * SIDE)]
        self._open, self._more, self._close = (SIDE * SIDE + i for i in range(3))
        signs = [words.token(sign) for sign in ("<object>", MORE, "</object>")]
        self._tokens = np.array([*cells, *signs, *words.ends])
        self._column = {int(token): i for i, token in enumerate(self._tokens)}
        self._state, self._first, self._left = self.OPEN, 0, max_objects

    @property
    def tokens(self) -> np.ndarray:
        return self._tokens

    @property
    def column(self) -> dict[int, int]:
        return self._column

    @property
    def done(self) -> bool:
        return self._state == self.DONE

    def allowed(self) -> np.ndarray:
        row = np.zeros(len(self._tokens), bool)
        if self._state == self.OPEN:
            row[self._open] = True
        elif self._state == self.FIRST:
            row[: SIDE * SIDE] = True
        elif self._state == self.SECOND:
            y, x = divmod(self._first, SIDE)
            row[: SIDE * SIDE].reshape(SIDE, SIDE)[y:, x:] = True
        elif self._state == self.NEXT:
            row[self._close] = True
            row[self._more] = self._left > 0
        else:
            row[self._close + 1 :] = True
        return row

    def advance(self, column: int) -> None:
        if self._state == self.FIRST:
            self._first = column
        if self._state == self.SECOND:
            self._left -= 1
        after = {self.OPEN: self.FIRST, self.FIRST: self.SECOND, self.SECOND: self.NEXT, self.END: self.DONE}
        closing = self.END if column == self._close else self.FIRST
        self._state = after.get(self._state, closing)
