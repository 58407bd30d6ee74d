"""Measures the load: whether the cameras' frames fit the engine, and which budget level is possible."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from argus_ros.core.frame import CameraState

REFRESH_INTERVAL = 0.1  #: seconds between two measurements of the load
CLIMB_INTERVAL = 1.0  #: minimum seconds between two steps up the budget ladder
#: EDF changes to shares by weight above the first load, and back below the second.
LOAD_FITS, LOAD_FITS_AGAIN = 0.9, 0.8


@dataclass(frozen=True)
class Load:
    """The scheduler's load, for diagnostics."""

    load: float = 0.0  #: engine seconds needed per second, at the levels in use
    overloaded: bool = False  #: shares by weight instead of earliest deadline first
    level: int = 0  #: highest budget level the load allows
    cameras: dict[str, float] = field(default_factory=dict)  #: frames per second that each camera offers


class LoadWatch:
    """Measures the load at intervals, with hysteresis."""

    def __init__(self) -> None:
        self.load = Load()
        self._refresh_at = self._climb_at = -math.inf

    def update(
        self,
        now: float,
        cameras: Collection[CameraState],
        levels: int,
        seconds: Callable[[int], float],
    ) -> None:
        """Measure again once the interval has passed; ``seconds``: engine time of a frame at a level."""
        if now < self._refresh_at:
            return
        self._refresh_at = now + REFRESH_INTERVAL
        rates = {camera.name: camera.rate(now) for camera in cameras}
        level = self._level(now, sum(rates.values()), levels, seconds)
        load = sum(rates[camera.name] * seconds(min(camera.level, level)) for camera in cameras)
        overloaded = load > (LOAD_FITS_AGAIN if self.load.overloaded else LOAD_FITS)
        self.load = Load(load, overloaded, level, rates)

    def _level(self, now: float, demand: float, levels: int, seconds: Callable[[int], float]) -> int:
        """The highest level for ``demand`` frames per second: down at once, up one step at a time."""
        level = self.load.level
        if level > 0 and demand * seconds(level) > 1.0:
            while level > 0 and demand * seconds(level) > 1.0:
                level -= 1
            self._climb_at = now + CLIMB_INTERVAL
        elif level + 1 < levels and now >= self._climb_at and demand * seconds(level + 1) <= LOAD_FITS:
            level += 1
            self._climb_at = now + CLIMB_INTERVAL
        return level
