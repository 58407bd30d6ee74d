"""Florence-2: ``cone<loc_10><loc_20><loc_30><loc_40>``, x0 y0 x1 y1; bin N is (N + 0.5) / 1000 of a side.

It has no chat: its processor makes a prompt from a task's token. Several boxes after one phrase are several
objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from argus_ros.core.types import Task
from argus_ros.vlm.formats import location_tokens
from argus_ros.vlm.formats.reading import Candidate, Constraint, Question, Sizes, Words
from argus_ros.vlm.formats.text import Text

BINS = 1000
_PLACES = re.compile(r"(?:<loc_\d{1,4}>)+")
_PLACE = re.compile(r"<loc_(\d{1,4})>")


class Florence2(Text):
    chat = False

    def questions(self, task: Task) -> Sequence[Question]:
        if task.name == "detect" and not task.classes:
            return [Question("<OD>")]
        if task.name == "detect":
            return [Question(f"<OPEN_VOCABULARY_DETECTION>{name}", name) for name in task.classes]
        if task.name == "ground":
            phrase = task.prompt.strip()
            return [Question(f"<CAPTION_TO_PHRASE_GROUNDING>{phrase}", phrase)]
        return [Question("<DENSE_REGION_CAPTION>" if task.name == "dense_caption" else "<CAPTION>")]

    def read(self, answer: str, sizes: Sizes) -> Iterator[Candidate]:
        done = 0
        for match in _PLACES.finditer(answer):
            label = re.sub(r"<[^<>]*>", "", answer[done : match.start()]).strip()
            places, done = [int(n) for n in _PLACE.findall(match[0])], match.end()
            for first in range(0, len(places), 4):
                box = [(n + 0.5) / BINS for n in places[first : first + 4]]
                yield Candidate(label, box if len(box) == 4 else None, match.span())

    def constraint(self, task: Task, words: Words, max_objects: int) -> Constraint | None:
        if task.name in ("caption", "ask"):
            return None
        places = tuple(words.token(f"<loc_{i}>") for i in range(BINS))
        return location_tokens.words_then_box(words, places, max_objects)
