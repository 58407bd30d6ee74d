"""PaliGemma: ``<loc0010><loc0020><loc0030><loc0040> cone ; …``, y0 x0 y1 x1 in 1024ths of the picture.

It has no chat: a prompt is a verb and its object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from argus_ros.core.types import Task
from argus_ros.vlm.formats import location_tokens
from argus_ros.vlm.formats.reading import Candidate, Constraint, Question, Sizes, Words
from argus_ros.vlm.formats.text import Text

BINS = 1024
_OBJECT = re.compile(r"((?:<loc\d{4}>)+)([^<;]*)")
_PLACE = re.compile(r"<loc(\d{4})>")


class PaliGemma(Text):
    chat = False

    def questions(self, task: Task) -> Sequence[Question]:
        if task.name == "detect":
            return [Question("detect " + " ; ".join(task.classes))]
        if task.name == "ground":
            return [Question(f"detect {task.prompt.strip()}", task.prompt.strip())]
        return [Question(f"answer en {task.prompt.strip()}" if task.name == "ask" else "caption en")]

    def read(self, answer: str, sizes: Sizes) -> Iterator[Candidate]:
        for item in _OBJECT.finditer(answer):
            places = [int(n) / BINS for n in _PLACE.findall(item[1])]
            for first in range(0, len(places), 4):
                four = places[first : first + 4]
                box = [four[1], four[0], four[3], four[2]] if len(four) == 4 else None
                yield Candidate(item[2].strip(), box, item.span())

    def constraint(self, task: Task, words: Words, max_objects: int) -> Constraint | None:
        if task.name in ("caption", "ask"):
            return None
        places = tuple(words.token(f"<loc{i:04d}>") for i in range(BINS))
        separator = words.encode(" ;")[-1]
        labels = task.classes if task.name == "detect" else (task.prompt.strip(),)
        return location_tokens.box_then_label(words, places, separator, labels, max_objects)
