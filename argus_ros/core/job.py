"""What the pipeline keeps for each frame, and the report that the frame ends in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from argus_ros.core.image import Image, Region
from argus_ros.core.preparation import Prepared
from argus_ros.core.protocol import FrameRequest
from argus_ros.core.still import Look
from argus_ros.core.types import Answer, Outcome, StageTimes, Task


@dataclass(frozen=True)
class Report:
    """The outcome of a frame, with its answer and times."""

    camera: str
    header: Any  #: as given to ``offer``
    outcome: Outcome
    reason: str
    task: Task  #: it was run with, or would have been
    answer: Answer | None  #: boxes in pixels of the whole image; None where the engine gave none
    times: StageTimes
    age: float  #: seconds since the image was taken
    width: int = 0  #: of the whole image; 0 where it was not looked at
    height: int = 0
    level: int = 0  #: of the budget, steps below the full one
    engine_start: float = 0.0  #: seconds from arrival until the engine got it; 0 where it did not


@dataclass(frozen=True)
class Question:
    """Of a frame that is run to answer a question, beside its camera's stream."""

    camera: str
    capture_time: float  #: when the image's age was zero; the frame's own time begins with the question
    on_end: Callable[[Report], None]


@dataclass(eq=False)
class Job:
    """What the pipeline keeps for a frame, from its image to its answer."""

    header: Any
    image: Image | None  #: None once it is prepared: its memory goes back to the middleware
    task: Task
    region: Region
    size: tuple[int, int] = (0, 0)
    slot: int | None = None  #: of the shared memory, while it has one
    prepared: Prepared | None = None
    prepare_seconds: float = 0.0
    look: Look | None = None  #: what the still gate compares
    answer: Answer | None = None
    question: Question | None = None
    reported: bool = False  #: whether the one who asked has the answer


def engine_request(id: int, slot: int, prepared: Prepared, task: Task) -> FrameRequest:
    width, height = prepared.region.width, prepared.region.height
    return FrameRequest(id, slot, prepared.rows, prepared.columns, width, height, task, frame=prepared.frame)


def moved(answer: Answer, region: Region) -> Answer:
    """The answer with boxes moved from the region of interest into the whole image."""
    x, y = region.x, region.y
    boxes = (
        replace(d, x_min=d.x_min + x, x_max=d.x_max + x, y_min=d.y_min + y, y_max=d.y_max + y)
        for d in answer.detections
    )
    return replace(answer, detections=tuple(boxes))
