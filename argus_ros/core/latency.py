"""How long a stage will take, learnt while running.

``seconds = shape(level, batch) * pace``: each pair of budget level and batch size keeps a window of what
it took, divided by the stage's pace; the pace says how fast the stage is now. A device that throttles,
or a scene that fills with objects, slows every level alike, so one level's news serves them all.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping

#: (stage, level, batch size) to seconds.
Prior = Mapping[tuple[str, int, int], float]


class LatencyModel:
    """Online quantiles of the seconds a stage takes, per budget level and batch size.

    ``prior`` holds what was measured before, by an engine's warm-up say; it has the weight of one
    observation, and if this machine turns out slower or faster throughout, the pace takes that up.
    Without it a stage nothing is known of is predicted at zero, so that its first frame runs.
    """

    def __init__(self, prior: Prior | None = None, *, quantile: float = 0.98, window: int = 100) -> None:
        self.quantile = quantile
        self.window = window
        self._stages: dict[str, _Stage] = {}
        for (stage, level, batch), seconds in (prior or {}).items():
            self.observe(stage, level, batch, seconds)

    def observe(self, stage: str, level: int, batch: int, seconds: float, *, at_least: bool = False) -> None:
        """Learn that ``batch`` frames took ``seconds`` together.

        ``at_least``: the work was cut short, so the figure counts only where it exceeds the prediction.
        """
        seconds = max(seconds, 1e-6)
        if at_least and seconds <= self.predict(stage, level, batch):
            return
        if stage not in self._stages:
            self._stages[stage] = _Stage(self.quantile, self.window)
        self._stages[stage].observe((level, batch), seconds)

    def predict(self, stage: str, level: int, batch: int = 1) -> float:
        """Seconds that are rarely exceeded (the quantile): for deadlines."""
        known = self._stages.get(stage)
        if known is None:
            return 0.0
        window, factor = known.find(level, batch)
        return window.high * known.pace * factor

    def least(self, stage: str, level: int, batch: int = 1) -> float:
        """The fewest seconds it ever took."""
        known = self._stages.get(stage)
        return known.least(level, batch) if known else 0.0

    def typical(self, stage: str, level: int, batch: int = 1) -> float:
        """Mean seconds: for loads."""
        known = self._stages.get(stage)
        if known is None:
            return 0.0
        window, factor = known.find(level, batch)
        return window.mean * known.pace * factor


class _Stage:
    """The windows of one stage, and its pace."""

    SMOOTHING = 0.05  #: weight of one observation in the pace
    SURPRISE = 2.0  #: this far outside all that the window holds is a surprise; two in a row set the pace

    def __init__(self, quantile: float, size: int) -> None:
        self.pace = 1.0
        self._windows: dict[tuple[int, int], _Window] = {}
        self._least: dict[tuple[int, int], float] = {}  # seconds, of each window's key
        self._nearest: dict[tuple[int, int], tuple[_Window, float]] = {}
        self._quantile, self._size = quantile, size
        self._pending: tuple[int, _Window, float] | None = None  # the last observation, if it surprised

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
        if pending:  # it stood alone: no change of pace, but a part of what its window can expect
            pending[1].add(pending[2])
        if surprise:  # kept within bounds: an accident must not carry the mean away
            bounded = max(window.smallest / self.SURPRISE, min(shape, window.largest * self.SURPRISE))
            self._pending = (surprise, window, bounded)
        else:
            self.pace *= 1.0 + self.SMOOTHING * (shape / window.mean - 1.0)
            window.add(shape)

    def find(self, level: int, batch: int) -> tuple[_Window, float]:
        """The window that tells most of a level and batch size, and the factor to apply to it.

        An unseen batch takes as long as its members one by one; an unseen level as long as the nearest
        one below (so that it is tried), or above where none below was seen.
        """
        key = (level, batch)
        found = self._nearest.get(key)
        if found is None:
            seen = self._seen(level, batch)
            found = (self._windows[seen], max(1.0, batch / seen[1]))
            self._nearest[key] = found
        return found

    def least(self, level: int, batch: int) -> float:
        return self._least[self._seen(level, batch)]

    def _seen(self, level: int, batch: int) -> tuple[int, int]:
        """The level and batch size, or what tells most of it."""
        return min(
            self._windows,
            key=lambda k: (abs(k[0] - level), k[0] > level, k[1] > batch, abs(k[1] - batch)),
        )


class _Window:
    """The last observations of one key, as they came and in order."""

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
