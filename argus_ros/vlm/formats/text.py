"""Models without a known box format: captions and answers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from argus_ros.core.types import Task
from argus_ros.vlm.formats.reading import Candidate, Constraint, Question, Sizes, Words, caption_or_question


class Text:
    chat = True

    def questions(self, task: Task) -> Sequence[Question]:
        return [caption_or_question(task)]

    def read(self, answer: str, sizes: Sizes) -> Iterator[Candidate]:
        return iter(())

    def constraint(self, task: Task, words: Words, max_objects: int) -> Constraint | None:
        return None

    def schema(self, task: Task) -> dict[str, Any] | None:
        return None
