"""Names for objects that last from frame to frame, one tracker a camera.

norfair does the tracking: a Kalman filter per object and boxes matched by overlap, within one label.
Time is counted in the camera's usual interval between answers, so that a dropped frame is a longer step
and an object missed for a moment keeps its name at any rate. Where stamps tell no time, frames are counted.
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

#: Answers in a row that may miss an object before it is forgotten.
MEMORY = 5
#: Overlap (IoU) with the predicted box from which on a detection is the same object.
LEAST_OVERLAP = 0.2
#: Intervals from which the usual one is taken.
RECENT = 9


class TrackingError(ValueError):
    """Tracking is not available; says what to do."""


class Tracker:
    """Fills ``track_id`` in one camera's detections. Raises TrackingError where norfair is not installed.

    An object gets its number when it is first seen; numbers count up from 1 and none is given twice.
    """

    def __init__(self) -> None:
        try:
            import norfair  # its statistics take a second to load, which only those who track should pay
        except ImportError:
            raise TrackingError(
                "tracking needs norfair: pip install 'norfair-enough>=2.4', or switch tracking off"
            ) from None
        self._norfair = norfair
        self._given = 0  # numbers given by trackers before this one
        self._start()

    def _start(self) -> None:
        self._tracker = self._norfair.Tracker(
            "iou",
            distance_threshold=1 - LEAST_OVERLAP,
            hit_counter_max=MEMORY,
            initialization_delay=0,
            past_detections_length=0,
            # Only ratios count. Things start to move without warning, so velocity is believed early.
            filter_factory=self._norfair.OptimizedKalmanFilterFactory(
                R=1, Q=0.5, pos_variance=1, vel_variance=10
            ),
        )
        # norfair's own IoU writes a warning for every box that is predicted to shrink to nothing.
        self._tracker.distance_function = self._norfair.distances.VectorizedDistance(_distance)
        self._last: int | None = None  # stamp
        self._intervals: deque[int] = deque(maxlen=RECENT)

    def update(self, detections: Sequence[Detection], stamp: int) -> tuple[Detection, ...]:
        """The detections, in their order, with ``track_id`` set; ``stamp`` in nanoseconds.

        A stamp that goes back (a bag that starts again) begins anew. One that stays, or is zero, as drivers
        leave it, counts as the next frame; so does one that is less than ``JUMP`` out of order.
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
            period=MEMORY,  # a single sight is enough to be remembered for long
        )
        numbers = {o.last_detection.data: self._number(o) for o in objects if o.last_detection.age == o.age}
        return tuple(replace(found, track_id=numbers[i]) for i, found in enumerate(detections))

    def _steps(self, stamp: int) -> int:
        """Usual intervals since the last answer, no more than it takes to forget everything."""
        passed = 0 if self._last is None else stamp - self._last
        self._last = max(stamp, self._last or 0)
        if passed <= 0:
            return 1
        self._intervals.append(passed)
        return min(max(round(passed / median(self._intervals)), 1), MEMORY + 2)

    def _number(self, tracked: norfair.TrackedObject) -> str:
        assert tracked.id is not None, "there is no delay before one is given"
        return str(self._given + tracked.id)


def _distance(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """One less IoU of every pair; 1 for a box that was predicted to vanish."""
    return 1 - iou(found, known)
