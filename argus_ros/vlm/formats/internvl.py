"""InternVL: ``<ref>cone</ref><box>[[x0, y0, x1, y1], …]</box>``, in thousandths of the picture.

Phrases are asked for in the words of its training.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from argus_ros.core.types import Task
from argus_ros.vlm.formats.reading import Candidate, Question, Sizes, label_before, listed, numbers, scaled
from argus_ros.vlm.formats.text import Text, caption_or_question

SCALE = 1000
DETECT = "Please detect and label all objects of these kinds in the image and mark their positions: {}."
ASK = "Please provide the bounding box coordinate of the region this sentence describes: <ref>{}</ref>"

_LABEL = re.compile(r"<ref>([^<]*)</ref>")
_BOX = re.compile(r"\[\s*(-?[\d.]+(?:\s*,\s*-?[\d.]+)*)\s*(\]|$)")


class InternVL(Text):
    def questions(self, task: Task) -> Sequence[Question]:
        if task.name == "detect":
            return [Question(DETECT.format(listed(task.classes)))]
        if task.name == "ground":
            return [Question(ASK.format(task.prompt.strip()), task.prompt.strip())]
        return [caption_or_question(task)]

    def read(self, answer: str, sizes: Sizes) -> Iterator[Candidate]:
        labels = list(_LABEL.finditer(answer))
        for box in _BOX.finditer(answer):
            values = scaled(numbers(box[1]), SCALE, SCALE) if box[2] else None
            yield Candidate(label_before(labels, box.start()), values, box.span())
