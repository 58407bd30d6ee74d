"""In which order cameras are served: by deadline, or by weight when not all frames can be run.

While the load fits, the frame with the earliest deadline goes first (EDF). Under overload, cameras share the
engine by weight: each has a virtual time, the engine seconds that it has used over its weight, and among the
cameras that are not ahead of the average the one with the earliest virtual deadline goes first (EEVDF).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from argus_ros.core.frame import CameraState, Frame


class Ordering:
    """Sets ``priority`` of cameras and frames, and keeps the cameras' virtual times."""

    def __init__(self) -> None:
        self.overloaded = False
        self._virtual_now = 0.0  # average of the cameras' virtual times at the last selection

    @property
    def reason(self) -> str:
        """Why a frame is selected, in the present order."""
        return "its camera's turn by weight" if self.overloaded else "earliest deadline"

    def switch(self, overloaded: bool, cameras: Iterable[CameraState], selected: Iterable[Frame]) -> None:
        """Change the order. Virtual times start at 0, and frames already selected go first."""
        if overloaded == self.overloaded:
            return
        self.overloaded = overloaded
        if overloaded:
            self._virtual_now = 0.0
            for camera in cameras:
                camera.virtual_time = 0.0
        for frame in selected:  # priorities of the two orders cannot be compared
            frame.priority = -math.inf

    def first(
        self,
        ready: Sequence[CameraState],
        competing: Iterable[CameraState],
        seconds: Mapping[str, float],
    ) -> CameraState:
        """The camera to serve next, of those ``ready``, each with a frame waiting.

        ``competing`` are all that have a frame waiting or selected: they make the average virtual time,
        as the only camera that is ready may be far ahead. ``seconds``: engine time of a frame, by camera.
        """
        if not self.overloaded:
            for camera in ready:
                camera.priority = camera.waiting.deadline if camera.waiting else math.inf
            return min(ready, key=attrgetter("priority"))
        weights = [(camera.virtual_time, camera.policy.weight) for camera in competing]
        self._virtual_now = sum(time * weight for time, weight in weights) / sum(w for _, w in weights)
        eligible = [c for c in ready if c.virtual_time <= self._virtual_now] or ready
        for camera in eligible:
            start = min(camera.virtual_time, self._virtual_now)
            camera.priority = start + seconds[camera.name] / camera.policy.weight
        return min(eligible, key=attrgetter("priority"))

    def join(self, camera: CameraState, seconds: float) -> None:
        """A camera that had no frame has one: it may lag behind by one frame's engine ``seconds`` at most."""
        longest_lag = seconds / camera.policy.weight
        camera.virtual_time = max(camera.virtual_time, self._virtual_now - longest_lag)

    def reset(self, camera: CameraState) -> None:
        """Put a camera whose weight has changed at the average."""
        camera.virtual_time = self._virtual_now

    def account(self, camera: CameraState, frame: Frame, seconds: float) -> None:
        """Advance a camera's virtual time by the predicted engine ``seconds`` of a frame.

        A camera that is ahead and runs because no other is ready does not wait for that later.
        """
        frame.virtual_cost = seconds / camera.policy.weight
        camera.virtual_time = min(camera.virtual_time, self._virtual_now) + frame.virtual_cost
        frame.priority = camera.virtual_time if self.overloaded else frame.deadline

    def settle(self, camera: CameraState, frame: Frame, seconds: float) -> None:
        """Replace the predicted cost of a frame by the engine ``seconds`` it took (0: it did not run)."""
        camera.virtual_time += seconds / camera.policy.weight - frame.virtual_cost
