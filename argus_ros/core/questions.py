"""Questions about a camera's newest image, which run beside the camera's stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from argus_ros.core.image import Image, Region
from argus_ros.core.job import Job, Question, Report
from argus_ros.core.types import Task

#: A camera's newest image is too old for a question after this many seconds.
SILENCE = 3.0
#: The scheduler treats questions in progress as cameras with these names.
QUESTIONS = ("question 1", "question 2", "question 3", "question 4")


class AskError(ValueError):
    """A question cannot be answered; the message gives the reason."""


@dataclass(frozen=True)
class Newest:
    """A camera's newest image."""

    header: Any
    image: Image
    capture_time: float  #: on the steady clock
    arrived: float


class Questions:
    """The newest image of each camera, and the free names for questions. The caller holds a lock."""

    def __init__(self) -> None:
        self._newest: dict[str, Newest] = {}  # by camera
        self._free = list(QUESTIONS)

    def keep(self, camera: str, newest: Newest) -> None:
        """Keep a camera's newest image."""
        self._newest[camera] = newest

    def forget(self, camera: str) -> None:
        """Drop a camera's newest image."""
        self._newest.pop(camera, None)

    def clear(self) -> None:
        """Drop all images."""
        self._newest.clear()

    def newest(self, camera: str, now: float) -> Newest:
        """The image to ask about. Raises AskError where there is none, or with too many questions."""
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
        """Free the name for another question."""
        self._free.append(name)
