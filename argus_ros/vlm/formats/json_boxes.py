"""Families that write a JSON array of objects, each with a label and four numbers.

Qwen2.5-VL: ``bbox_2d`` in pixels of the resized picture; Qwen3-VL: ``bbox_2d`` in thousandths; LFM2.5-VL:
``bbox`` in fractions of the picture. A truncated last object is counted and dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from argus_ros.core.types import Task
from argus_ros.vlm.formats.reading import LABEL, Candidate, Question, Sizes, listed, scaled
from argus_ros.vlm.formats.text import Text, caption_or_question

#: Maximum number of objects in an answer under a schema.
MOST = 32
_OBJECT = re.compile(r"\{[^{}]*(\}|$|(?=\{))")


@dataclass(frozen=True)
class JsonBoxes(Text):
    key: str
    scale: float  #: 0: pixels of the resized picture
    ask: str  #: the question, with {} for the names

    def questions(self, task: Task) -> Sequence[Question]:
        if task.name == "detect":
            return [Question(self.ask.format(listed(task.classes)))]
        if task.name == "ground":
            return [Question(self.ask.format(task.prompt.strip()), task.prompt.strip())]
        return [caption_or_question(task)]

    def read(self, answer: str, sizes: Sizes) -> Iterator[Candidate]:
        width, height = (self.scale, self.scale) if self.scale else (sizes.seen_width, sizes.seen_height)
        for match in _OBJECT.finditer(answer):
            try:
                value = json.loads(match[0], parse_int=_number, parse_float=_number)
            except (ValueError, RecursionError):
                value = {}
            box, label = value.get(self.key), value.get("label", "")
            usable = (
                isinstance(box, list)
                and all(isinstance(edge, float) for edge in box)
                and isinstance(label, str)
                and width > 0
                and height > 0
            )
            yield Candidate(
                label if isinstance(label, str) else "",
                scaled(box, width, height) if usable and box else None,
                match.span(),
            )

    def schema(self, task: Task) -> dict[str, Any] | None:
        """An array of objects, the box first. A schema cannot require that a box's maxima are greater."""
        edge = (
            {"type": "number", "minimum": 0, "maximum": 1}
            if self.scale == 1
            else {"type": "integer", "minimum": 0}
        )
        edge |= {"maximum": self.scale} if self.scale else {}
        names = task.classes if task.name == "detect" else ()
        properties = {
            self.key: {"type": "array", "items": edge, "minItems": 4, "maxItems": 4},
            "label": {"enum": list(names)} if names else {"type": "string", "maxLength": LABEL},
        }
        schema = {"type": "object", "properties": properties, "required": [self.key, "label"]}
        return {"type": "array", "items": {**schema, "additionalProperties": False}, "maxItems": MOST}


def _number(text: str) -> float:
    return float(text[:32])


_ARRAY = ' Answer with a JSON array of {{"label": ..., "%s": [x1, y1, x2, y2]}} and nothing else.'

QWEN2_5 = JsonBoxes("bbox_2d", 0, "Outline the position of every instance of: {}." + _ARRAY % "bbox_2d")
QWEN3 = JsonBoxes(
    "bbox_2d",
    1000,
    "Locate every instance that belongs to the following categories: {}. "
    "Report bbox coordinates in JSON format.",
)
LFM2_5 = JsonBoxes(
    "bbox",
    1,
    "Detect all instances of: {}. Coordinates are shares of the image from 0 to 1." + _ARRAY % "bbox",
)
