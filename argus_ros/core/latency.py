"""Predicts the duration of a stage from the durations observed so far.

``seconds = shape(level, batch) * pace``: each pair of budget level and batch size has a window of observed
durations, divided by the stage's pace; the pace is how fast the stage is now. A device that throttles, or a
scene with more objects, slows every level alike, so an observation of one level updates all of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping

#: (stage, level, batch size) to seconds.
Prior = Mapping[tuple[str, int, int], float]


class LatencyModel:
    """Online quantiles of a stage's duration, per budget level and batch size.

    ``prior`` holds durations measured before, for example in an engine's warm-up. It counts as one
    observation, and the pace corrects it where this machine is slower or faster. Without a prior and
    observations the prediction is 0, so that the first frame runs.
    """

    def __init__(self, prior: Prior | None = None, *, quantile: float = 0.98, window: int = 100) -> None:
        self.quantile = quantile
        self.window = window
        self._stages: dict[str, _Stage] = {}
        for (stage, level, batch), seconds in (prior or {}).items():
            self.observe(stage, level, batch, seconds)

    def observe(self, stage: str, level: int, batch: int, seconds: float, *, at_least: bool = False) -> None:
        """Learn that ``batch`` frames took ``seconds`` together.

        ``at_least``: the work was interrupted, so the figure only counts where it exceeds the prediction.
        """
        seconds = max(seconds, 1e-6)
        if at_least and seconds <= self.predict(stage, level, batch):
            return
        if stage not in self._stages:
            self._stages[stage] = _Stage(self.quantile, self.window)
        self._stages[stage].observe((level, batch), seconds)

    def predict(self, stage: str, level: int, batch: int = 1) -> float:
        """The quantile of the duration in seconds; use it for deadlines."""
        known = self._stages.get(stage)
        if known is None:
            return 0.0
        window, factor = known.find(level, batch)
        return window.high * known.pace * factor

    def least(self, stage: str, level: int, batch: int = 1) -> float:
        """The shortest duration observed, seconds."""
        known = self._stages.get(stage)
        return known.least(level, batch) if known else 0.0

    def typical(self, stage: str, level: int, batch: int = 1) -> float:
        """The mean duration in seconds; use it for loads."""
        known = self._stages.get(stage)
        if known is None:
            return 0.0
        window, factor = known.find(level, batch)
        return window.mean * known.pace * factor


class _Stage:
    """The windows of one stage, and its pace."""

    SMOOTHING = 0.05  #: weight of one observation in the pace
    SURPRISE = 2.0  #: this factor outside the window is an outlier; two in a row set the pace

    def __init__(self, quantile: float, size: int) -> None:
        self.pace = 1.0
        self._windows: dict[tuple[int, int], _Window] = {}
        self._least: dict[tuple[int, int], float] = {}  # shortest seconds per key of the windows
        self._nearest: dict[tuple[int, int], tuple[_Window, float]] = {}
        self._quantile, self._size = quantile, size
        self._pending: tuple[int, _Window, float] | None = None  # the last observation, if it was an outlier

    def observe(self, key: tuple[int, int], seconds: float) -> None:
        self._least[key] = min(seconds, self._least.get(key, seconds))
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(self._quantile, self._size)
            self._nearest.clear()
            window.add(seconds / self.pace)
            return
        shape = seconds / self.pace
        slow = shape > self.SURPRISE * window.largest
        surprise = 1 if slow else -1 if shape * self.SURPRISE < window.smallest else 0
        pending, self._pending = self._pending, None
        if surprise and pending and pending[0] == surprise:
            self.pace = seconds / window.mean
            return
        if pending:  # a single outlier: no change of pace, but a value of its window
            pending[1].add(pending[2])
        if surprise:  # bounded, so that one outlier does not dominate the mean
            bounded = max(window.smallest / self.SURPRISE, min(shape, window.largest * self.SURPRISE))
            self._pending = (surprise, window, bounded)
        else:
            self.pace *= 1.0 + self.SMOOTHING * (shape / window.mean - 1.0)
            window.add(shape)

    def find(self, level: int, batch: int) -> tuple[_Window, float]:
        """The window nearest to a level and batch size, and the factor to apply to it.

        A batch size without observations takes as long as its members one by one; a level without
        observations as long as the nearest one below (so that it is tried), or above where there is none
        below.
        """
        key = (level, batch)
        found = self._nearest.get(key)
        if found is None:
            nearest = self._nearest_observed(level, batch)
            found = (self._windows[nearest], max(1.0, batch / nearest[1]))
            self._nearest[key] = found
        return found

    def least(self, level: int, batch: int) -> float:
        return self._least[self._nearest_observed(level, batch)]

    def _nearest_observed(self, level: int, batch: int) -> tuple[int, int]:
        """The observed level and batch size nearest to these."""
        return min(
            self._windows,
            key=lambda k: (abs(k[0] - level), k[0] > level, k[1] > batch, abs(k[1] - batch)),
        )


class _Window:
    """The last observations of one key, in order of time and of size."""

    def __init__(self, quantile: float, size: int) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._quantile, self._size = quantile, size
        self.mean = self.high = 0.0

    @property
    def smallest(self) -> float:
        return self._sorted[0]

    @property
    def largest(self) -> float:
        return self._sorted[-1]

    def add(self, value: float) -> None:
        if len(self._recent) == self._size:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(value)
        insort(self._sorted, value)
        count = len(self._sorted)
        self.mean = sum(self._sorted) / count
        self.high = self._sorted[int(self._quantile * (count - 1) + 0.5)]
