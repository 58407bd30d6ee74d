"""Simulates cameras, a host worker and an engine around the frame scheduler, and traces the events.

Time is simulated, so results are exact and repeatable. The baselines, a FIFO and a round robin, get the same
frames and the same noise as the scheduler.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from argus_ros.core.frame import CameraPolicy, Ended, Frame, Level, State
from argus_ros.core.latency import LatencyModel
from argus_ros.core.scheduler import FrameScheduler
from argus_ros.core.types import Outcome

FIFO_DEPTH = 10  #: the common queue depth of ROS nodes


@dataclass(frozen=True)
class Source:
    """The arrivals of one camera's images."""

    rate: float = 30.0  #: per second
    poisson: bool = False  #: random arrivals instead of periodic ones
    jitter: float = 0.0  #: standard deviation of each arrival, seconds
    burst: int = 1  #: frames that arrive together; the average rate stays
    delay: float = 0.0  #: age of an image on arrival, seconds

    def arrivals(self, seconds: float, rng: random.Random) -> Iterator[float]:
        """Times of arrival in [0, seconds), ascending for each camera up to its jitter."""
        gap = self.burst / self.rate
        at = rng.uniform(0.0, gap)
        while at < seconds:
            for _ in range(self.burst):
                yield max(0.0, at + (rng.gauss(0.0, self.jitter) if self.jitter else 0.0))
            at += rng.expovariate(1.0 / gap) if self.poisson else gap


@dataclass(frozen=True)
class Service:
    """The duration of a stage: measured samples per level and batch size, or one figure each."""

    samples: Mapping[tuple[int, int], Sequence[float]]
    noise: float = 0.0  #: standard deviation of the logarithm, on top of the samples
    slow: tuple[float, float, float] = (1.0, 0.0, 0.0)  #: factor, from second, to second

    def typical(self, level: int, batch: int = 1) -> float:
        values = self.samples[level, batch]
        return sum(values) / len(values)

    def seconds(self, level: int, batch: int, now: float, luck: tuple[float, float]) -> float:
        """The duration for ``luck``, a frame's own (uniform, normal) draws, equal under every policy."""
        values = self.samples[level, batch]
        factor, start, end = self.slow
        slow = factor if start <= now < end else 1.0
        return values[int(luck[0] * len(values))] * math.exp(self.noise * luck[1]) * slow


@dataclass(frozen=True)
class Scenario:
    """The parameters of a simulation."""

    cameras: dict[str, CameraPolicy]
    sources: dict[str, Source]
    prepare: Service
    engine: Service
    levels: tuple[Level, ...] = (Level(),)
    seconds: float = 60.0
    ahead: int = 1
    max_batch: int = 1
    seed: int = 0

    def scheduler(self) -> FrameScheduler:
        """The scheduler under test, with the latencies that an engine's warm-up measures."""
        stages = {"prepare": self.prepare, "run": self.engine}
        prior = {
            (stage, level, batch): service.typical(level, batch)
            for stage, service in stages.items()
            for level, batch in service.samples
        }
        scheduler = FrameScheduler(
            self.cameras, self.levels, LatencyModel(prior), ahead=self.ahead, max_batch=self.max_batch
        )
        scheduler.engine_up()
        return scheduler

    def policies(self) -> dict[str, Policy]:
        return {
            "argus": self.scheduler(),
            "fifo": Queues(self.cameras, len(self.levels) - 1, depth=FIFO_DEPTH, ahead=self.ahead),
            "round_robin": Queues(self.cameras, len(self.levels) - 1, depth=1, ahead=self.ahead),
        }


class Policy(Protocol):
    """The interface of a scheduler for the simulated node."""

    def offer(self, camera: str, capture_time: float, now: float, payload: Any = None) -> Frame: ...
    def next_prepare(self, now: float) -> Frame | None: ...
    def prepared(self, frame: Frame, now: float) -> None: ...
    def next_run(self, now: float) -> list[Frame]: ...
    def finished(self, frame: Frame, now: float) -> bool: ...
    def take_ended(self) -> list[Ended]: ...


class Queues:
    """The baselines: a queue per camera that drops its oldest frame. All others run and are published.

    ``depth`` 1 keeps the newest frame and serves the cameras in turn; a deeper queue serves the oldest image
    first.
    """

    def __init__(self, cameras: Mapping[str, CameraPolicy], level: int, *, depth: int, ahead: int) -> None:
        self._policies, self._level, self._depth, self._ahead = dict(cameras), level, depth, ahead
        self._queues: dict[str, deque[Frame]] = {name: deque() for name in cameras}
        self._turns = deque(cameras)
        self._selected: list[Frame] = []
        self._busy = False
        self._ended: list[Ended] = []
        self._ids = itertools.count(1)

    def offer(self, camera: str, capture_time: float, now: float, payload: Any = None) -> Frame:
        frame = Frame(
            next(self._ids),
            camera,
            capture_time,
            now,
            capture_time + self._policies[camera].deadline,
            payload,
        )
        queue = self._queues[camera]
        queue.append(frame)
        if len(queue) > self._depth:
            self._ended.append(Ended(queue.popleft(), Outcome.SUPERSEDED, "the queue is full"))
        return frame

    def next_prepare(self, now: float) -> Frame | None:
        if len(self._selected) >= (self._ahead if self._busy else max(1, self._ahead)):
            return None
        ready = [name for name in self._turns if self._queues[name]]
        if not ready:
            return None
        name = ready[0] if self._depth == 1 else min(ready, key=lambda n: self._queues[n][0].arrived)
        self._turns.remove(name)
        self._turns.append(name)
        frame = self._queues[name].popleft()
        frame.level = self._level
        self._selected.append(frame)
        return frame

    def prepared(self, frame: Frame, now: float) -> None:
        frame.state = State.PREPARED

    def next_run(self, now: float) -> list[Frame]:
        if self._busy or not self._selected or self._selected[0].state is not State.PREPARED:
            return []
        self._busy = True
        frame = self._selected.pop(0)
        frame.run_started = now
        return [frame]

    def finished(self, frame: Frame, now: float) -> bool:
        self._busy = False
        self._ended.append(Ended(frame, Outcome.PUBLISHED, ""))
        return True

    def take_ended(self) -> list[Ended]:
        ended, self._ended = self._ended, []
        return ended


@dataclass(frozen=True)
class Run:
    """One batch on the engine."""

    start: float
    end: float
    frames: tuple[Frame, ...]


@dataclass
class Trace:
    """The events of one simulation."""

    scenario: Scenario
    runs: list[Run] = field(default_factory=list)
    published: list[tuple[float, Frame]] = field(default_factory=list)
    ended: list[tuple[float, Ended]] = field(default_factory=list)
    offered: int = 0
    held: int = 0  #: frames without an outcome at the end of the simulation
    decision_us: list[float] = field(default_factory=list)  #: wall time of each decision

    def busy(self) -> float:
        """The fraction of time in which the engine ran."""
        return (
            sum(min(run.end, self.scenario.seconds) - run.start for run in self.runs) / self.scenario.seconds
        )

    def engine_seconds(self) -> dict[str, float]:
        """Engine time of each camera; a batch counts in equal parts."""
        had = dict.fromkeys(self.scenario.cameras, 0.0)
        for run in self.runs:
            for frame in run.frames:
                had[frame.camera] += (run.end - run.start) / len(run.frames)
        return had

    def share_error(self) -> float:
        """Largest relative difference between a camera's share of engine time and its fair share."""
        had, fair = self.engine_seconds(), self.fair_seconds()
        return max((abs(had[name] / fair[name] - 1.0) for name in had if fair[name]), default=0.0)

    def fair_seconds(self) -> dict[str, float]:
        """Engine time by weight, limited to each camera's need."""
        scenario, total = self.scenario, sum(self.engine_seconds().values())
        offers = Counter(ended.frame.camera for _, ended in self.ended)
        mean = total / max(1, sum(len(run.frames) for run in self.runs))
        asks = {name: offers[name] * mean for name in scenario.cameras}
        fair: dict[str, float] = {}
        while len(fair) < len(asks):
            open_ = {n: p.weight for n, p in scenario.cameras.items() if n not in fair}
            unit = max(0.0, total - sum(fair.values())) / sum(open_.values())
            sated = {n: asks[n] for n, weight in open_.items() if asks[n] <= unit * weight}
            fair |= sated or {n: unit * weight for n, weight in open_.items()}
        return fair

    def age(self, camera: str) -> dict[str, float | None]:
        """Age of information: the age of a planner's newest answer over time (p50, p99, max), in seconds."""
        news = [(now, frame.capture_time) for now, frame in self.published if frame.camera == camera]
        if not news:
            return {"p50": None, "p99": None, "max": None}
        times = np.array([now for now, _ in news] + [self.scenario.seconds])
        capture_time = np.maximum.accumulate([capture_time for _, capture_time in news])
        grid = np.arange(times[0], times[-1], 1e-3)
        ages = grid - capture_time[np.searchsorted(times[:-1], grid, "right") - 1]
        p50, p99 = np.percentile(ages, (50, 99)) if len(ages) else (0.0, 0.0)
        return {"p50": float(p50), "p99": float(p99), "max": float(np.max(times[1:] - capture_time))}

    def gaps(self, camera: str) -> dict[str, float]:
        """Longest time between two starts of a camera, and its bound under overload."""
        scenario = self.scenario
        starts = [run.start for run in self.runs if any(f.camera == camera for f in run.frames)]
        longest_batch = max((run.end - run.start for run in self.runs), default=0.0)
        frame = max(((run.end - run.start) / len(run.frames) for run in self.runs), default=0.0)
        weights = sum(policy.weight for policy in scenario.cameras.values())
        fair_period = frame * weights / scenario.cameras[camera].weight
        return {
            "max": max((b - a for a, b in itertools.pairwise(starts)), default=scenario.seconds),
            "bound": 2.0 * fair_period
            + (1 + scenario.ahead) * longest_batch
            + 1.0 / scenario.sources[camera].rate,
        }

    def summary(self) -> dict[str, Any]:
        """The figures, under the keys of the JSON file."""
        outcomes = Counter(ended.outcome for _, ended in self.ended)
        had = self.engine_seconds()
        total = sum(had.values()) or 1.0
        dropped = {o.name.lower(): n for o, n in sorted(outcomes.items()) if o is not Outcome.PUBLISHED}
        levels = Counter(self.scenario.levels[f.level].name for run in self.runs for f in run.frames)
        return {
            "offered": self.offered,
            "published": outcomes[Outcome.PUBLISHED],
            "published_late": sum(now > frame.deadline for now, frame in self.published),
            "withheld": outcomes[Outcome.WITHHELD],
            "run": sum(len(run.frames) for run in self.runs),
            "dropped": dropped,
            "engine_busy": self.busy(),
            "share_error": self.share_error(),
            "share": {name: seconds / total for name, seconds in had.items()},
            "gap_s": {name: self.gaps(name) for name in self.scenario.cameras},
            "age_s": {name: self.age(name) for name in self.scenario.cameras},
            "levels": dict(levels),
            "decision_us": quantiles(self.decision_us),
        }


def simulate(scenario: Scenario, policy: Policy) -> Trace:
    """Run a scenario with ``policy``."""
    rng = random.Random(scenario.seed)
    events: list[tuple[float, int, str, Any]] = []
    count = itertools.count()
    for name, source in scenario.sources.items():
        for at in source.arrivals(scenario.seconds, rng):
            luck = (rng.random(), rng.gauss(0.0, 1.0))
            events.append((at, next(count), "image", (name, at - source.delay, luck)))
    heapq.heapify(events)
    trace = Trace(scenario, offered=len(events))
    working = False  # the state of the host's only worker

    def later(when: float, what: str, payload: Any) -> None:
        heapq.heappush(events, (when, next(count), what, payload))

    def decide(choose: Any, now: float) -> Any:
        start = time.perf_counter()
        answer = choose(now)
        if answer:
            trace.decision_us.append((time.perf_counter() - start) * 1e6)
        return answer

    while events and events[0][0] <= scenario.seconds:
        now, _, what, payload = heapq.heappop(events)
        if what == "image":
            name, capture_time, luck = payload
            policy.offer(name, capture_time, now, luck)
        elif what == "prepared":
            policy.prepared(payload, now)
            working = False
        else:
            for frame in payload:
                if policy.finished(frame, now):
                    trace.published.append((now, frame))
        if batch := decide(policy.next_run, now):
            luck = max((frame.payload for frame in batch), key=lambda luck: luck[1])
            end = now + scenario.engine.seconds(batch[0].level, len(batch), now, luck)
            trace.runs.append(Run(now, end, tuple(batch)))
            later(end, "answered", batch)
        if not working and (frame := decide(policy.next_prepare, now)):
            working = True
            later(now + scenario.prepare.seconds(frame.level, 1, now, frame.payload), "prepared", frame)
        trace.ended += [(now, ended) for ended in policy.take_ended()]
    trace.held = trace.offered - len(trace.ended)
    return trace


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and max; empty without values."""
    if not values:
        return {}
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "max": float(max(values))}
