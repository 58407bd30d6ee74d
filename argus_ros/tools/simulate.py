"""Simulate the frame scheduler: many cameras on one engine, beside a FIFO and a round robin.

The very class that the node drives meets simulated cameras, one host worker and one engine; time is
simulated, so results are exact and repeatable. Both baselines see the same frames and the same noise.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.table import Table

from argus_ros.core.frame import CameraPolicy, Ended, Frame, Level, State
from argus_ros.core.latency import LatencyModel
from argus_ros.core.scheduler import FrameScheduler
from argus_ros.core.section import MALFORMED
from argus_ros.core.types import Outcome
from argus_ros.tools.machine import describe

FIFO_DEPTH = 10  #: the queue depth that ROS nodes commonly ask for
COST_CAMERAS = (1, 2, 4, 8, 16, 32, 64)  #: numbers of cameras at which ``--cost`` measures


@dataclass(frozen=True)
class Source:
    """How the images of one camera arrive."""

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
    """Seconds that a stage takes: measured samples per level and batch size, or one figure each."""

    samples: Mapping[tuple[int, int], Sequence[float]]
    noise: float = 0.0  #: standard deviation of the logarithm, on top of the samples
    slow: tuple[float, float, float] = (1.0, 0.0, 0.0)  #: factor, from second, to second

    def typical(self, level: int, batch: int = 1) -> float:
        values = self.samples[level, batch]
        return sum(values) / len(values)

    def seconds(self, level: int, batch: int, now: float, luck: tuple[float, float]) -> float:
        """``luck``: a frame's own (uniform, normal) draws, so that it costs the same under every policy."""
        values = self.samples[level, batch]
        factor, start, end = self.slow
        slow = factor if start <= now < end else 1.0
        return values[int(luck[0] * len(values))] * math.exp(self.noise * luck[1]) * slow


@dataclass(frozen=True)
class Scenario:
    """What is simulated."""

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
        """The scheduler under test, knowing what an engine's warm-up would tell it."""
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
    """What the simulated node asks of a scheduler."""

    def offer(self, camera: str, capture_time: float, now: float, payload: Any = None) -> Frame: ...
    def next_prepare(self, now: float) -> Frame | None: ...
    def prepared(self, frame: Frame, now: float) -> None: ...
    def next_run(self, now: float) -> list[Frame]: ...
    def finished(self, frame: Frame, now: float) -> bool: ...
    def take_ended(self) -> list[Ended]: ...


class Queues:
    """The baselines: a queue per camera that drops its oldest, everything run, everything published.

    ``depth`` 1 is newest wins with the cameras in turn; a deeper one serves the oldest image first.
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
    """What happened in one simulation."""

    scenario: Scenario
    runs: list[Run] = field(default_factory=list)
    published: list[tuple[float, Frame]] = field(default_factory=list)
    ended: list[tuple[float, Ended]] = field(default_factory=list)
    offered: int = 0
    held: int = 0  #: frames without an end when the simulation stopped
    decision_us: list[float] = field(
        default_factory=list
    )  #: wall time of each choice of what to prepare or run

    def busy(self) -> float:
        """Part of the time that the engine ran."""
        return (
            sum(min(run.end, self.scenario.seconds) - run.start for run in self.runs) / self.scenario.seconds
        )

    def engine_seconds(self) -> dict[str, float]:
        """Engine time each camera had; a batch counts in equal parts."""
        had = dict.fromkeys(self.scenario.cameras, 0.0)
        for run in self.runs:
            for frame in run.frames:
                had[frame.camera] += (run.end - run.start) / len(run.frames)
        return had

    def share_error(self) -> float:
        """Largest relative distance of a camera's share of engine time from its fair one."""
        had, fair = self.engine_seconds(), self.fair_seconds()
        return max((abs(had[name] / fair[name] - 1.0) for name in had if fair[name]), default=0.0)

    def fair_seconds(self) -> dict[str, float]:
        """Engine time by weight, but to no camera more than it asks for."""
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
        """Age of information: how old what a planner knows is, over time (p50, p99, max), in seconds."""
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
        """Longest time between two starts of a camera, beside the bound for one under overload."""
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
            "decision_us": _quantiles(self.decision_us),
        }


def simulate(scenario: Scenario, policy: Policy) -> Trace:
    """Drive ``policy`` through a scenario."""
    rng = random.Random(scenario.seed)
    events: list[tuple[float, int, str, Any]] = []
    count = itertools.count()
    for name, source in scenario.sources.items():
        for at in source.arrivals(scenario.seconds, rng):
            luck = (rng.random(), rng.gauss(0.0, 1.0))
            events.append((at, next(count), "image", (name, at - source.delay, luck)))
    heapq.heapify(events)
    trace = Trace(scenario, offered=len(events))
    working = False  # the host's one worker

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


# --- the command --------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cameras", type=int, default=8, metavar="N", help="1 to 64 cameras")
    add("--weights", default="1", help="of the cameras, such as 4:2:1; the last one repeats")
    add("--rate", type=float, default=30.0, help="images per second of each camera")
    add("--deadline", type=float, default=0.3, help="most seconds of age at publication")
    add("--rate-cap", type=float, default=0.0, help="frames per second taken up from each camera; 0: all")
    add("--load", type=float, help="engine time asked for, over what there is; 3 unless --latency is given")
    add("--latency", type=Path, metavar="FILE", help="measured seconds: {stage: {level: {batch: [seconds]}}}")
    add("--levels", default="1", help="relative cost of the budget levels, such as 0.4:0.7:1")
    add("--prepare", type=float, default=0.003, help="seconds to prepare a frame")
    add("--noise", type=float, default=0.05, help="relative spread of the stages' times")
    add("--arrivals", choices=("periodic", "poisson"), default="periodic")
    add("--jitter", type=float, default=0.0, help="standard deviation of arrivals, seconds")
    add("--burst", type=int, default=1, help="images that arrive together")
    add("--delay", type=float, default=0.0, help="age of an image on arrival, seconds")
    add("--slow", default="1:0:0", help="FACTOR:FROM:TO, the engine slows down between two seconds")
    add(
        "--ahead",
        type=int,
        default=1,
        help="frames prepared while the engine runs; 0: no overlap",
    )
    add("--max-batch", type=int, default=1, help="frames of several cameras in one run")
    add("--batch-cost", type=float, default=0.5, help="cost of each further frame in a batch")
    add("--seconds", type=float, default=60.0, help="simulated time")
    add("--seed", type=int, default=0)
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("--plot", type=Path, metavar="FILE", help="draw ages, shares and rates (PNG)")
    add("--cost", action="store_true", help="measure what a decision costs with 1 to 64 cameras instead")


def run(args: argparse.Namespace) -> int:
    """Simulate and show. Raises ValueError with what is wrong in the arguments."""
    scenario = scenario_from(args)
    costs, traces = {}, {}
    if args.cost:
        costs = _costs(args)
        report: dict[str, Any] = {"decision_us": costs}
        _print_costs(costs)
    else:
        traces = {name: simulate(scenario, policy) for name, policy in scenario.policies().items()}
        summaries = {name: trace.summary() for name, trace in traces.items()}
        report = summaries.pop("argus") | {"baselines": summaries}
        _print(scenario, {"argus": report, **summaries})
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        report |= describe()
        report["arguments"] = {k: v for k, v in vars(args).items() if isinstance(v, (int, float, str))}
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    if args.plot:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        _plot_costs(costs, args.plot) if args.cost else _plot(traces, args.plot)
    return 0


def scenario_from(args: argparse.Namespace) -> Scenario:
    """The scenario that the command line describes. Raises ValueError with what is wrong."""
    if not 1 <= args.cameras <= 64:
        raise ValueError(f"--cameras is {args.cameras}; it can be 1 to 64")
    if args.burst < 1 or min(args.rate, args.seconds, args.prepare) <= 0.0 or (args.load or 1.0) <= 0.0:
        raise ValueError("--rate, --seconds, --prepare, --load and --burst have to be above 0")
    weights = _numbers("--weights", args.weights)
    weights += [weights[-1]] * (args.cameras - len(weights))
    costs = _numbers("--levels", args.levels)
    slow = _numbers("--slow", args.slow)
    if len(slow) != 3:
        raise ValueError(f"--slow is {args.slow}; give FACTOR:FROM:TO, such as 20:10:20")
    names = [f"camera_{i}" for i in range(args.cameras)]
    prepare, engine = _samples(args, costs)
    levels = sorted({level for level, _ in engine})
    return Scenario(
        cameras={
            n: CameraPolicy(args.deadline, w, args.rate_cap) for n, w in zip(names, weights, strict=False)
        },
        sources=dict.fromkeys(
            names, Source(args.rate, args.arrivals == "poisson", args.jitter, args.burst, args.delay)
        ),
        prepare=Service(prepare, args.noise),
        engine=Service(engine, args.noise, (slow[0], slow[1], slow[2])),
        levels=tuple(Level(str(level)) for level in levels),
        seconds=args.seconds,
        ahead=max(args.ahead, args.max_batch) if args.ahead else 0,
        max_batch=args.max_batch,
        seed=args.seed,
    )


def _samples(args: argparse.Namespace, costs: Sequence[float]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Seconds of both stages per (level, batch), scaled to ``--load`` where that is given."""
    sizes = range(1, args.max_batch + 1)
    if args.latency:
        try:
            measured = json.loads(args.latency.read_text())
            prepare, engine = (
                {
                    (int(level), int(batch)): [_duration(s) for s in seconds]
                    for level, batches in measured[stage].items()
                    for batch, seconds in batches.items()
                }
                for stage in ("prepare", "run")
            )
        except OSError as error:
            raise ValueError(f"{args.latency} cannot be read: {error.strerror}") from None
        except MALFORMED:
            raise ValueError(
                f"{args.latency}: expected {{stage: {{level: {{batch: [seconds, …]}}}}}} with the stages "
                "'prepare' and 'run', levels from 0, and seconds above 0"
            ) from None
        levels = range(max(1, len(measured["run"])))
        missing = [(n, b) for n in levels for b in sizes if not engine.get((n, b))]
        missing += [(n, 1) for n in levels if not prepare.get((n, 1))]
        if missing:
            raise ValueError(f"{args.latency}: no seconds for (level, batch) {missing[0]}")
    else:
        engine = {
            (n, b): [cost * (1 + args.batch_cost * (b - 1))] for n, cost in enumerate(costs) for b in sizes
        }
        prepare = {(n, 1): [args.prepare] for n in range(len(costs))}
    if args.load or not args.latency:
        top = engine[max(level for level, _ in engine), 1]
        asked = args.cameras * min(args.rate, args.rate_cap or math.inf) * sum(top) / len(top)
        scale = (args.load or 3.0) / asked
        engine = {key: [s * scale for s in seconds] for key, seconds in engine.items()}
    return prepare, engine


def _duration(value: Any) -> float:
    seconds = float(value)
    if not 0.0 < seconds < math.inf:
        raise ValueError(f"{seconds} s")
    return seconds


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(":")]
    except ValueError:
        raise ValueError(f"{option} is {text!r}; give numbers with colons between, such as 4:2:1") from None


def _costs(args: argparse.Namespace) -> dict[int, dict[str, float]]:
    """Wall microseconds per decision for growing numbers of cameras, the load kept the same."""
    costs = {}
    for cameras in COST_CAMERAS:
        scenario = scenario_from(argparse.Namespace(**vars(args) | {"cameras": cameras}))
        costs[cameras] = _quantiles(simulate(scenario, scenario.scheduler()).decision_us)
    return costs


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "max": float(max(values))}


# --- for people ---------------------------------------------------------------------------------


def _print(scenario: Scenario, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    console = Console()
    cameras = Table(title="age of information (s): p50 / p99 / max, and share of engine time")
    cameras.add_column("camera")
    cameras.add_column("weight", justify="right")
    for name in summaries:
        cameras.add_column(name, justify="right")
    for camera, policy in scenario.cameras.items():
        cells = []
        for summary in summaries.values():
            ages = summary["age_s"][camera].values()
            figures = " / ".join("-" if age is None else f"{age:.3f}" for age in ages)
            cells.append(f"{figures}  {summary['share'][camera]:6.1%}")
        cameras.add_row(camera, f"{policy.weight:g}", *cells)
    console.print(cameras)
    totals = Table(title=f"{scenario.seconds:g} s, {len(scenario.cameras)} cameras")
    totals.add_column("")
    for name in summaries:
        totals.add_column(name, justify="right")
    for key in ("offered", "run", "published", "published_late", "withheld"):
        totals.add_row(key.replace("_", " "), *(str(s[key]) for s in summaries.values()))
    reasons = sorted({r for s in summaries.values() for r in s["dropped"]} - {"withheld"})
    for reason in reasons:
        label = f"dropped: {reason.replace('_', ' ')}"
        totals.add_row(label, *(str(s["dropped"].get(reason, 0)) for s in summaries.values()))
    totals.add_row("engine busy", *(f"{s['engine_busy']:.3f}" for s in summaries.values()))
    totals.add_row("share error", *(f"{s['share_error']:.1%}" for s in summaries.values()))
    totals.add_row("levels", *(_levels(s["levels"]) for s in summaries.values()))
    totals.add_row("µs per decision", *(f"{s['decision_us'].get('p50', 0):.1f}" for s in summaries.values()))
    console.print(totals)


def _levels(levels: Mapping[str, int]) -> str:
    total = sum(levels.values()) or 1
    return ", ".join(f"{name}: {count / total:.0%}" for name, count in sorted(levels.items()))


def _print_costs(costs: Mapping[int, Mapping[str, float]]) -> None:
    table = Table("cameras", "p50 µs", "p99 µs", title="wall time of one decision")
    for cameras, cost in costs.items():
        table.add_row(str(cameras), f"{cost['p50']:.1f}", f"{cost['p99']:.1f}")
    Console().print(table)


COLOURS = {"argus": "#0b6e4f", "round_robin": "#e09f3e", "fifo": "#9e2a2b"}


def _plot(traces: Mapping[str, Trace], file: Path) -> None:
    """Three panels: ages per camera, shares of engine time, answers in time per second."""
    from matplotlib.figure import Figure  # only who plots pays for it

    scenario = next(iter(traces.values())).scenario
    cameras = list(scenario.cameras)
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    ages, shares, rates = figure.subplots(1, 3)
    place = np.arange(len(cameras))
    for i, (name, trace) in enumerate(traces.items()):
        where = place + (i - 1) * 0.27
        label, colour = name.replace("_", " "), COLOURS[name]
        known = [trace.age(camera) for camera in cameras]
        p50, p99 = ([age[key] or np.nan for age in known] for key in ("p50", "p99"))
        ages.bar(where, p99, 0.25, color=colour, alpha=0.35)
        ages.bar(where, p50, 0.25, color=colour, label=label)
        had = np.array(list(trace.engine_seconds().values()))
        shares.bar(where, had / had.sum(), 0.25, color=colour, label=label)
        in_time = [now for now, frame in trace.published if now <= frame.deadline]
        counts, edges = np.histogram(in_time, np.arange(0.0, scenario.seconds + 1e-9, 0.5))
        rates.step(edges[:-1], counts / 0.5, where="post", color=colour, label=label)
    ages.set(title="age of information (p50, p99 pale)", ylabel="s", yscale="log")
    ages.axhline(next(iter(scenario.cameras.values())).deadline, color="black", lw=0.8, ls=":")
    fair = np.array(list(traces["argus"].fair_seconds().values()))
    shares.plot(place, fair / fair.sum(), "k_", ms=18, label="fair by weight")
    shares.set(title="share of engine time")
    rates.set(title="answers in time, per second", xlabel="s", ylim=(0, None))
    for axes in (ages, shares):
        axes.set_xticks(place[:: max(1, len(cameras) // 8)])
        axes.set_xlabel("camera")
    for axes in (ages, shares, rates):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, dpi=90)


def _plot_costs(costs: Mapping[int, Mapping[str, float]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    cameras = np.array(list(costs))
    for key, style in (("p50", "o-"), ("p99", "o:")):
        axes.plot(cameras, [cost[key] for cost in costs.values()], style, color=COLOURS["argus"], label=key)
    known = cameras[cameras >= 8]
    if len(known):
        growth = known * np.log(known) * costs[int(known[0])]["p50"] / (known[0] * np.log(known[0]))
        axes.plot(known, growth, color="grey", lw=0.8, ls="--", label="n log n")
    axes.axhline(50.0, color="black", lw=0.8, ls=":")
    axes.set(xlabel="cameras", ylabel="µs", title="wall time of one decision", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=90)
