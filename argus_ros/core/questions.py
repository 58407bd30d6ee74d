"""Questions about a camera's newest image, which run beside the camera's stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from argus_ros.core.image import Image, Region
from argus_ros.core.job import Job, Question, Report
from argus_ros.core.types import Task

#: Seconds without an image after which a camera's newest image is too old for a question.
SILENCE = 3.0
#: Names under which the scheduler knows the questions in progress, as it knows cameras by theirs.
QUESTIONS = ("question 1", "question 2", "question 3", "question 4")


class AskError(ValueError):
    """A question that cannot be answered, and why."""


@dataclass(frozen=True)
class Newest:
    """A camera's newest image, for questions about it."""

    header: Any
    image: Image
    capture_time: float  #: when its age was zero
    arrived: float


class Questions:
    """The newest image of each camera, and the names that are free for questions. The caller holds a lock."""

    def __init__(self) -> None:
        self._newest: dict[str, Newest] = {}  # by camera
        self._free = list(QUESTIONS)

    def note(self, camera: str, newest: Newest) -> None:
        """Keep a camera's newest image."""
        self._newest[camera] = newest

    def forget(self, camera: str) -> None:
        """Drop a camera's newest image."""
        self._newest.pop(camera, None)

    def clear(self) -> None:
        """Drop all images."""
        self._newest.clear()

    def newest(self, camera: str, now: float) -> Newest:
        """The image to ask about. Raises AskError without one or at too many questions."""
        newest = self._newest.get(camera)
        if newest is None:
            raise AskError(f"no image of camera {camera} has arrived")
        if now - newest.arrived > SILENCE:
            raise AskError(f"the newest image of camera {camera} came {now - newest.arrived:.1f} s ago")
        if not self._free:
            raise AskError(f"{len(QUESTIONS)} questions are being answered already; ask again later")
        return newest

    def begin(
        self, camera: str, newest: Newest, task: Task, region: Region, on_end: Callable[[Report], None]
    ) -> tuple[str, Job]:
        """The name of a new question about ``newest``, and the job of its frame."""
        question = Question(camera, newest.capture_time, on_end)
        return self._free.pop(), Job(newest.header, newest.image, task, region, question=question)

    def end(self, name: str) -> None:
        """The name is free for another question."""
        self._free.append(name)
