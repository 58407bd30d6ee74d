"""Converts an image's stamp to its capture time on the steady clock."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds a clock or a stamp must jump back to count as time going back; less is reordering.
JUMP = 0.5


@dataclass(frozen=True)
class Arrival:
    """The capture time of an image, and what follows from its stamp."""

    capture_time: float  #: steady seconds at which the image's age was zero
    clear: tuple[str, ...] = ()  #: cameras whose frames are to be dropped, as time went back
    warning: str = ""  #: to log; given once


class StampClock:
    """Finds the capture time of each image on the steady clock.

    The capture time is the stamp, while the stamp and the node's ROS clock agree within ``max_clock_skew``
    seconds. Else it is the arrival, with one warning per camera; also for a stamp in the future. When the ROS
    clock goes back, the frames of every camera are to be dropped; when only one camera's stamps do (a looped
    bag without its clock), that camera's frames. A stamp of zero (set by some drivers) is ignored, as are
    stamps that go back where several publishers share a topic.
    """

    def __init__(self, max_clock_skew: float = 5.0) -> None:
        self.max_clock_skew = max_clock_skew
        self._stamps: dict[str, int] = {}  # newest stamp of each camera since time last went back
        self._ros_now: int | None = None
        self._warned: set[str] = set()

    def arrive(self, camera: str, stamp: int, ros_now: int, now: float, *, shared: bool = False) -> Arrival:
        """Take an image stamped ``stamp``, arriving at ``ros_now`` (ROS nanoseconds), ``now`` (steady).

        ``shared``: the topic has other publishers, with stamps of their own.
        """
        clear, warning = self._rewound(camera, stamp, ros_now, shared)
        age = (ros_now - stamp) * 1e-9
        if abs(age) <= self.max_clock_skew:
            return Arrival(now - max(age, 0.0), clear, warning)
        if ros_now and camera not in self._warned:  # 0: simulated time has not begun
            self._warned.add(camera)
            skewed = f"camera {camera}: {self._skew(stamp, age)}"
            warning = f"{warning}; {skewed}" if warning else skewed
        return Arrival(now, clear, warning)

    def forget(self, camera: str) -> None:
        """Remove a camera; a later one of the same name starts with no history."""
        self._stamps.pop(camera, None)
        self._warned.discard(camera)

    @staticmethod
    def _skew(stamp: int, age: float) -> str:
        if not stamp:
            return "its header.stamp is zero, so ages count from arrival; set it in the camera driver"
        side = "behind" if age > 0 else "ahead of"
        return (
            f"its stamps are {abs(age):.1f} s {side} this node's clock, so ages count from arrival; "
            "synchronise the clocks, or set use_sim_time where a bag publishes /clock"
        )

    def _rewound(self, camera: str, stamp: int, ros_now: int, shared: bool) -> tuple[tuple[str, ...], str]:
        before, self._ros_now = self._ros_now, ros_now
        if before is not None and (before - ros_now) * 1e-9 > JUMP:
            cleared = tuple(self._stamps)
            self._stamps = {camera: stamp}
            jump = (before - ros_now) * 1e-9
            return cleared, f"the ROS clock went back by {jump:.1f} s: frames held are dropped"
        if not stamp:
            return (), ""
        newest = self._stamps.get(camera, stamp)
        if (newest - stamp) * 1e-9 > JUMP and not shared:
            self._stamps[camera] = stamp
            jump = (newest - stamp) * 1e-9
            return (camera,), f"camera {camera}: its stamps went back by {jump:.1f} s: its frames are dropped"
        self._stamps[camera] = max(newest, stamp)
        return (), ""
