"""Qwen2-VL: ``<|object_ref_start|>cone<|object_ref_end|><|box_start|>(x0,y0),(x1,y1)<|box_end|>``, in
thousandths of the picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from argus_ros.core.types import Task
from argus_ros.vlm.formats.reading import Candidate, Question, Sizes, label_before, numbers, scaled
from argus_ros.vlm.formats.text import Text, caption_or_question

SCALE = 1000
ASK = "Detect the bounding box of {}."

_LABEL = re.compile(r"<\|object_ref_start\|>([^<]*)<\|object_ref_end\|>")
_BOX = re.compile(r"<\|box_start\|>([^<]*)(<\|box_end\|>)?")
_PLACE = re.compile(r"\(\s*-?[\d.]+\s*,\s*-?[\d.]+\s*\)\s*,?\s*\(\s*-?[\d.]+\s*,\s*-?[\d.]+\s*\)")


class Qwen2VL(Text):
    def questions(self, task: Task) -> Sequence[Question]:
        if task.name == "detect":
            return [Question(ASK.format(name), name) for name in task.classes]
        if task.name == "ground":
            return [Question(ASK.format(task.prompt.strip()), task.prompt.strip())]
        return [caption_or_question(task)]

    def read(self, answer: str, sizes: Sizes) -> Iterator[Candidate]:
        labels = list(_LABEL.finditer(answer))
        for box in _BOX.finditer(answer):
            whole = box[2] and _PLACE.fullmatch(box[1].strip())
            values = scaled(numbers(box[1]), SCALE, SCALE) if whole else None
            yield Candidate(label_before(labels, box.start()), values, box.span())
