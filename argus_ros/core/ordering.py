"""The order in which cameras are served: by deadline, or by weight under overload.

Without overload the frame with the earliest deadline goes first (EDF). Under overload, cameras share the
engine by weight (EEVDF). Each has a virtual time: the engine seconds it has used, divided by its weight.
Among the cameras that are not ahead of the average, the one with the earliest virtual deadline goes first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from argus_ros.core.frame import CameraState, Frame


class Ordering:
    """Sets the ``priority`` of cameras and frames, and keeps the cameras' virtual times."""

    def __init__(self) -> None:
        self.overloaded = False
        self._virtual_now = 0.0  # average of the cameras' virtual times at the last selection

    @property
    def reason(self) -> str:
        """Why a frame is selected, in the current order."""
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
        for frame in selected:  # priorities of the two orders are not comparable
            frame.priority = -math.inf

    def first(
        self,
        ready: Sequence[CameraState],
        competing: Iterable[CameraState],
        seconds: Mapping[str, float],
    ) -> CameraState:
        """The camera to serve next, of the cameras ``ready``, each with a waiting frame.

        ``competing`` are all cameras with a waiting or selected frame. Their average virtual time is the
        reference, as a single ready camera may be far ahead. ``seconds``: engine time of a frame, by camera.
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
        """Add a camera that had no frame: it may be behind by the engine ``seconds`` of one frame at most."""
        longest_lag = seconds / camera.policy.weight
        camera.virtual_time = max(camera.virtual_time, self._virtual_now - longest_lag)

    def reset(self, camera: CameraState) -> None:
        """Set the virtual time of a camera whose weight has changed to the average."""
        camera.virtual_time = self._virtual_now

    def account(self, camera: CameraState, frame: Frame, seconds: float) -> None:
        """Advance a camera's virtual time by the predicted engine ``seconds`` of a frame.

        A camera that is ahead and runs because no other is ready is not delayed for that later.
        """
        frame.virtual_cost = seconds / camera.policy.weight
        camera.virtual_time = min(camera.virtual_time, self._virtual_now) + frame.virtual_cost
        frame.priority = camera.virtual_time if self.overloaded else frame.deadline

    def settle(self, camera: CameraState, frame: Frame, seconds: float) -> None:
        """Replace the predicted cost of a frame by its actual engine ``seconds`` (0: it did not run)."""
        camera.virtual_time += seconds / camera.policy.weight - frame.virtual_cost
