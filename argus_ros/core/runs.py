"""Frames that the engine has: what it is asked about them, and how long it may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from argus_ros.core.engine_client import EngineClient, EngineDownError
from argus_ros.core.frame import Ended, Frame
from argus_ros.core.job import Job, engine_request
from argus_ros.core.protocol import FrameRequest
from argus_ros.core.scheduler import FrameScheduler
from argus_ros.core.types import Outcome

#: Seconds the first frame of a budget level may take, while nothing is known of the engine's speed.
FIRST_PATIENCE = 60.0
#: Seconds before a frame's deadline at which generation stops, so that the answer can be published.
PUBLISH_MARGIN = 0.005


class Runs:
    """Hands prepared frames to the engine, and knows those that it has. The caller holds a lock.

    An engine that takes ``hang_factor`` times what is predicted for a frame, and more than ``hang_seconds``,
    is killed and started again.
    """

    def __init__(
        self, engine: EngineClient, scheduler: FrameScheduler, hang_factor: float, hang_seconds: float
    ) -> None:
        self._engine, self._scheduler = engine, scheduler
        self._hang_factor, self._hang_seconds = hang_factor, hang_seconds
        self._frames: dict[int, Frame] = {}  # by request id
        self._tried: set[tuple[str, int]] = set()  # work and budget level that the engine has answered

    def __contains__(self, frame: Frame) -> bool:
        return frame.id in self._frames

    @property
    def known(self) -> bool:
        """Whether the engine has ever answered."""
        return bool(self._tried)

    def start(self, now: float) -> None:
        """Send the frames that are next, if the engine is free."""
        frames = self._scheduler.next_run(now)
        if not frames:
            return
        requests = tuple(self._request(frame) for frame in frames)
        try:
            self._engine.submit(requests, self._patience(frames))
        except EngineDownError as error:
            for frame in frames:
                self._scheduler.drop(frame, Outcome.ENGINE_DOWN, str(error), now)
        else:
            self._frames.update({frame.id: frame for frame in frames})

    def end(self, id: int) -> Frame:
        """The frame of a request that the engine has answered, or failed at."""
        return self._frames.pop(id)

    def answered(self, frame: Frame) -> None:
        """The engine has answered a frame of this work at this budget level."""
        self._tried.add((frame.work, frame.level))

    def has(self, camera: str) -> bool:
        """Whether the engine has a frame of this camera."""
        return any(frame.camera == camera for frame in self._frames.values())

    def questions(self) -> list[Frame]:
        """Questions that have not been reported yet."""
        return [f for f in self._frames.values() if f.payload.question and not f.payload.reported]

    def overdue(self, now: float) -> list[Ended]:
        """Questions past their deadline: they are reported now."""
        reason = "its deadline passed while the engine ran it"
        late = [frame for frame in self.questions() if frame.deadline < now]
        return [Ended(frame, Outcome.WITHHELD, reason) for frame in late]

    def _patience(self, frames: Sequence[Frame]) -> float:
        """Seconds that the engine may take for these frames in one pass."""
        work, level = frames[0].work, frames[0].level
        if (work, level) not in self._tried:
            return FIRST_PATIENCE
        predicted = self._scheduler.latency.predict(work, level, len(frames))
        return max(self._hang_seconds, self._hang_factor * predicted)

    def _request(self, frame: Frame) -> FrameRequest:
        job: Job = frame.payload
        assert job.slot is not None
        assert job.prepared is not None
        return replace(
            engine_request(frame.id, job.slot, job.prepared, job.task),
            camera="" if job.question else frame.camera,
            taken=frame.capture_time,
            max_detections=self._scheduler.levels[frame.level].max_detections,
            deadline=None if frame.probe else frame.deadline - PUBLISH_MARGIN,
        )
