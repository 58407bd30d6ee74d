"""Object ids that persist from frame to frame, with one tracker per camera.

norfair does the tracking: a Kalman filter per object and boxes matched by overlap, within one label. Time is
counted in the camera's usual interval between answers, so that a dropped frame is a longer step and an object
missed for a moment keeps its id at any frame rate. Without useful stamps, frames are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from argus_ros.core.clock import JUMP
from argus_ros.core.matching import box_of, iou
from argus_ros.core.types import Detection

if TYPE_CHECKING:
    import norfair

#: An object is forgotten after this many answers in a row without it.
MEMORY = 5
#: Minimum overlap (IoU) with the predicted box for a detection to be the same object.
LEAST_OVERLAP = 0.2
#: Number of intervals from which the usual one is computed.
RECENT = 9


class TrackingError(ValueError):
    """Tracking is not available; the message says what to do."""


class Tracker:
    """Fills ``track_id`` in one camera's detections. Raises TrackingError where norfair is not installed.

    An object gets its number when it is first detected. Numbers count up from 1 and are never reused.
    """

    def __init__(self) -> None:
        try:
            import norfair  # takes a second to import, so only where tracking is on
        except ImportError:
            raise TrackingError(
                "tracking needs norfair: pip install 'norfair-enough>=2.4', or switch tracking off"
            ) from None
        self._norfair = norfair
        self._given = 0  # numbers assigned by previous trackers
        self._start()

    def _start(self) -> None:
        self._tracker = self._norfair.Tracker(
            "iou",
            distance_threshold=1 - LEAST_OVERLAP,
            hit_counter_max=MEMORY,
            initialization_delay=0,
            past_detections_length=0,
            # Only ratios count. Objects start to move without warning, so velocity adapts early.
            filter_factory=self._norfair.OptimizedKalmanFilterFactory(
                R=1, Q=0.5, pos_variance=1, vel_variance=10
            ),
        )
        # norfair's own IoU logs a warning for every box that is predicted to shrink to nothing.
        self._tracker.distance_function = self._norfair.distances.VectorizedDistance(_distance)
        self._last: int | None = None  # stamp
        self._intervals: deque[int] = deque(maxlen=RECENT)

    def update(self, detections: Sequence[Detection], stamp: int) -> tuple[Detection, ...]:
        """The detections, in their order, with ``track_id`` set; ``stamp`` in nanoseconds.

        A stamp that goes back (a looped bag) restarts the tracker. A stamp that stays the same or is zero
        (set by some drivers) counts as the next frame; so does one that is less than ``JUMP`` out of order.
        """
        if stamp and self._last is not None and (self._last - stamp) * 1e-9 > JUMP:
            self._given += self._tracker.total_object_count
            self._start()
        for _ in range(self._steps(stamp) - 1):
            self._tracker.update()
        objects = self._tracker.update(
            [
                self._norfair.Detection(np.reshape(box_of(found), (2, 2)), data=i, label=found.label)
                for i, found in enumerate(detections)
            ],
            period=MEMORY,  # one detection is enough to keep an object for long
        )
        numbers = {o.last_detection.data: self._number(o) for o in objects if o.last_detection.age == o.age}
        return tuple(replace(found, track_id=numbers[i]) for i, found in enumerate(detections))

    def _steps(self, stamp: int) -> int:
        """Usual intervals since the last answer, limited to the number that forgets all objects."""
        passed = 0 if self._last is None else stamp - self._last
        self._last = max(stamp, self._last or 0)
        if passed <= 0:
            return 1
        self._intervals.append(passed)
        return min(max(round(passed / median(self._intervals)), 1), MEMORY + 2)

    def _number(self, tracked: norfair.TrackedObject) -> str:
        assert tracked.id is not None, "an id is assigned without delay"
        return str(self._given + tracked.id)


def _distance(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """One minus IoU of every pair; 1 for a box that is predicted to vanish."""
    return 1 - iou(found, known)
