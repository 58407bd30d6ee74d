"""The pipeline's record of each frame, and the report at the frame's end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from argus_ros.core.image import Image, Region
from argus_ros.core.preparation import Prepared
from argus_ros.core.protocol import FrameRequest
from argus_ros.core.still import Snapshot
from argus_ros.core.types import Answer, Outcome, StageTimes, Task


@dataclass(frozen=True)
class Report:
    """The outcome of a frame, with its answer and times."""

    camera: str
    header: Any  #: as given to ``offer``
    outcome: Outcome
    reason: str
    task: Task  #: the task of the frame, run or not
    answer: Answer | None  #: boxes in pixels of the whole image; None where the engine gave none
    times: StageTimes
    age: float  #: seconds since the image was taken
    width: int = 0  #: of the whole image; 0 where it was not decoded
    height: int = 0
    level: int = 0  #: budget levels below the full one
    engine_start: float = 0.0  #: seconds from arrival to the request to the engine; 0 without one


@dataclass(frozen=True)
class Question:
    """Where a frame answers a question: its camera, and the callback for the report."""

    camera: str
    capture_time: float  #: of the image; the frame's own time begins with the question
    on_end: Callable[[Report], None]


@dataclass(eq=False)
class Job:
    """The pipeline's record of a frame, from its image to its answer."""

    header: Any
    image: Image | None  #: None after preparation, which frees the middleware's memory
    task: Task
    region: Region
    size: tuple[int, int] = (0, 0)
    slot: int | None = None  #: slot of the shared memory in use
    prepared: Prepared | None = None
    prepare_seconds: float = 0.0
    snapshot: Snapshot | None = None  #: what the still gate compares
    answer: Answer | None = None
    question: Question | None = None
    reported: bool = False  #: whether the question's callback was called


def engine_request(id: int, slot: int, prepared: Prepared, task: Task) -> FrameRequest:
    width, height = prepared.region.width, prepared.region.height
    return FrameRequest(id, slot, prepared.rows, prepared.columns, width, height, task, frame=prepared.frame)


def in_whole_image(answer: Answer, region: Region) -> Answer:
    """The answer with boxes relative to the whole image instead of the region of interest."""
    x, y = region.x, region.y
    boxes = (
        replace(d, x_min=d.x_min + x, x_max=d.x_max + x, y_min=d.y_min + y, y_max=d.y_max + y)
        for d in answer.detections
    )
    return replace(answer, detections=tuple(boxes))
