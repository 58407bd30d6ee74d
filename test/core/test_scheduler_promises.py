"""FrameScheduler: its promises under random events (hypothesis)."""

import math
from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from argus_ros.core.frame import CameraPolicy, Level, PolicyError, State
from argus_ros.core.latency import LatencyModel
from argus_ros.core.scheduler import PROBE_INTERVAL, FrameScheduler
from argus_ros.core.types import Outcome
from argus_ros.tools.simulation import Scenario, Service, Source, simulate


class Events(RuleBasedStateMachine):
    """Any order of events: every frame ends once, counts add up, memory is bounded, nothing stays stuck."""

    def __init__(self):
        super().__init__()
        self.now = 1.0
        self.ended = {}
        self.offered = Counter()
        self.preparing, self.running, self.unpublished = [], [], []
        self.out = set()  # frames between next_prepare and their end

    @initialize(ahead=st.integers(0, 3), max_batch=st.integers(1, 3), levels=st.integers(1, 3))
    def start(self, ahead, max_batch, levels):
        prior = {(stage, n, 1): 0.01 * (n + 1) for stage in ("prepare", "run") for n in range(levels)}
        ladder = [Level(str(n)) for n in range(levels)]
        self.s = FrameScheduler(
            {"a": CameraPolicy(0.3, 4.0), "b": CameraPolicy(0.1), "c": CameraPolicy(0.2, 1.0, 5.0)},
            ladder,
            LatencyModel(prior),
            ahead=ahead,
            max_batch=min(max_batch, max(1, ahead)),
        )
        self.s.engine_up()
        self.down = False
        self.cameras = {"a", "b", "c"}

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.01, 0.03, 0.3, 2.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(camera=st.sampled_from("abc"), age=st.sampled_from([-1.0, 0.0, 0.05, 0.15, 9.0]))
    def offer(self, camera, age):
        if camera in self.cameras:
            self.s.offer(camera, self.now - age, self.now)
            self.offered[camera] += 1

    @rule()
    def next_prepare(self):
        if frame := self.s.next_prepare(self.now):
            assert frame.state is State.PREPARING
            self.preparing.append(frame)
            self.out.add(frame)

    @precondition(lambda self: self.preparing)
    @rule(well=st.booleans(), which=st.integers(0, 9))
    def prepared(self, well, which):
        frame = self.preparing.pop(which % len(self.preparing))
        if well:
            self.s.prepared(frame, self.now)
        else:
            self.s.drop(frame, Outcome.UNDECODABLE, "no image", self.now)

    @rule()
    def next_run(self):
        batch = self.s.next_run(self.now)
        if batch:
            assert not self.down
            assert not [f for f in self.running if f.state is State.RUNNING]
            assert len({f.camera for f in batch}) == len(batch) <= self.s.max_batch
            assert len({f.level for f in batch}) == 1
            self.running = batch

    @precondition(lambda self: self.running)
    @rule(well=st.booleans(), truncated=st.booleans())
    def answered(self, well, truncated):
        frame = self.running.pop()
        if well:
            self.s.answered(frame, self.now, truncated=truncated)
            self.unpublished.append(frame)
            self.out.discard(frame)
        else:
            self.s.drop(frame, Outcome.ENGINE_DOWN, "it failed", self.now)

    @precondition(lambda self: self.unpublished)
    @rule()
    def finished(self):
        frame = self.unpublished.pop()
        if self.s.finished(frame, self.now):
            assert self.now <= frame.deadline

    @rule()
    def engine(self):
        self.down = not self.down
        if self.down:
            self.s.engine_down("gone")
        else:
            self.s.engine_up()

    @rule(camera=st.sampled_from([None, "a", "b", "c"]))
    def clear(self, camera):
        self.s.clear("time went back", camera)

    @rule(
        camera=st.sampled_from("abc"),
        deadline=st.sampled_from([0.05, 0.2, 1.0]),
        weight=st.sampled_from([1.0, 8.0]),
    )
    def policy(self, camera, deadline, weight):
        try:
            self.s.set_policy(camera, CameraPolicy(deadline, weight))
            self.cameras.add(camera)
        except PolicyError:
            assert deadline < self.s.shortest_deadline()

    @rule(camera=st.sampled_from("abc"))
    def remove(self, camera):
        if camera in self.cameras:
            self.s.remove_camera(camera)
            self.cameras.remove(camera)

    @invariant()
    def every_frame_ends_once_and_counts_add_up(self):
        if not hasattr(self, "s"):
            return
        for end in self.s.take_ended():
            assert end.frame not in self.ended
            assert end.reason
            assert end.frame.state is State.ENDED
            self.ended[end.frame] = end.outcome
            self.out.discard(end.frame)
        assert self.s.offered == self.offered
        assert Counter((f.camera, o) for f, o in self.ended.items()) == {
            (camera, outcome): n for camera, counts in self.s.counts.items() for outcome, n in counts.items()
        }
        assert len(self.out) <= self.s.ahead + 2 + self.s.max_batch

    def teardown(self):
        """Whatever happened: let go of everything and no frame is left."""
        if not hasattr(self, "s"):
            return
        for frame in self.preparing:
            self.s.prepared(frame, self.now)
        for frame in self.running + self.unpublished:
            self.s.finished(frame, self.now)
        self.s.clear("the end")
        self.every_frame_ends_once_and_counts_add_up()
        assert len(self.ended) == sum(self.offered.values())


TestEvents = Events.TestCase
TestEvents.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


class Watched:
    """A scheduler whose every decision is checked as it is made."""

    def __init__(self, scenario):
        self.s = scenario.scheduler()
        self.newest = {}
        self.started = {}
        self.ran = {}  # when each camera's last run began; without those that were probes in time
        self.now = 0.0
        self.busy = self.selected = 0

    def offer(self, camera, capture_time, now, payload=None):
        frame = self.s.offer(camera, capture_time, now, payload)
        if frame.state is State.WAITING:
            self.newest[camera] = frame
        return frame

    def next_prepare(self, now):
        self.now = now
        frame = self.s.next_prepare(now)
        if frame:
            assert frame is self.newest[frame.camera], "newest wins"
            assert now <= frame.deadline
        elif not self.busy and not any(
            f.state in (State.PREPARING, State.PREPARED) for f in self.newest.values()
        ):
            assert self.s.next_wakeup() is None, "work conserving: nothing waits while all is idle"
        return frame

    def prepared(self, frame, now):
        self.s.prepared(frame, now)

    def next_run(self, now):
        self.now = now
        batch = self.s.next_run(now)
        for frame in batch:
            seconds = self.s.latency.predict("run", frame.level, len(batch))
            assert frame.probe or now + seconds <= frame.deadline, "nothing past saving is run"
            assert self.started.get(frame.camera, 0) < frame.id, "never an older one after a newer"
            self.started[frame.camera] = frame.id
            assert not frame.probe or self.probe_due(frame.camera, now), "a second lies before a probe"
            self.ran[frame.camera] = now
        self.busy += len(batch)
        return batch

    def finished(self, frame, now):
        self.busy -= 1
        published = self.s.finished(frame, now)
        assert published == (now <= frame.deadline)
        if published and frame.probe:
            del self.ran[frame.camera]
        return published

    def probe_due(self, camera, now):
        return now >= self.ran.get(camera, -math.inf) + PROBE_INTERVAL

    def take_ended(self):
        ended = self.s.take_ended()
        for end in ended:
            dropped_early = end.outcome is Outcome.STALE and self.now < end.frame.deadline
            assert not (dropped_early and self.probe_due(end.frame.camera, self.now)), "a probe was due"
        return ended


@st.composite
def scenarios(draw):
    count = draw(st.integers(1, 8))
    names = [f"c{i}" for i in range(count)]
    levels = draw(st.integers(1, 3))
    max_batch = draw(st.integers(1, 3))
    load = draw(st.floats(0.2, 4.0))
    sources = {
        name: Source(
            rate=draw(st.sampled_from([5.0, 15.0, 30.0])),
            poisson=draw(st.booleans()),
            jitter=draw(st.sampled_from([0.0, 0.01])),
            burst=draw(st.sampled_from([1, 1, 3])),
            delay=draw(st.sampled_from([0.0, 0.03])),
        )
        for name in names
    }
    seconds = load / sum(source.rate for source in sources.values())
    noise = draw(st.sampled_from([0.0, 0.1, 0.5]))
    engine = {
        (level, batch): [seconds * (level + 1) / levels * (1 + 0.5 * (batch - 1))]
        for level in range(levels)
        for batch in range(1, max_batch + 1)
    }
    least = 2.0 * seconds
    return Scenario(
        cameras={
            name: CameraPolicy(
                least + draw(st.sampled_from([0.05, 0.1, 0.3])),
                draw(st.sampled_from([0.5, 1.0, 4.0])),
                draw(st.sampled_from([0.0, 0.0, 10.0])),
            )
            for name in names
        },
        sources=sources,
        prepare=Service({(level, 1): [0.2 * seconds] for level in range(levels)}, noise),
        engine=Service(engine, noise, draw(st.sampled_from([(1.0, 0.0, 0.0), (20.0, 1.0, 2.0)]))),
        levels=tuple(Level(str(level)) for level in range(levels)),
        seconds=4.0,
        ahead=max(draw(st.integers(0, 3)), max_batch if max_batch > 1 else 0),
        max_batch=max_batch,
        seed=draw(st.integers(0, 10_000)),
    )


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(scenarios())
def test_every_decision_keeps_the_promises(scenario):
    watched = Watched(scenario)
    trace = simulate(scenario, watched)
    ids = [ended.frame.id for _, ended in trace.ended]
    assert len(ids) == len(set(ids))
    assert trace.offered == len(ids) + trace.held
    assert trace.held <= len(scenario.cameras) + scenario.ahead + 2 + scenario.max_batch
    assert sum(sum(counts.values()) for counts in watched.s.counts.values()) == len(ids)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(scenarios())
def test_the_same_events_lead_to_the_same_decisions(scenario):
    first, second = (simulate(scenario, scenario.scheduler()) for _ in range(2))

    def story(trace):
        return [(now, e.frame.id, e.outcome, e.reason) for now, e in trace.ended]

    assert story(first) == story(second)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_under_overload_no_camera_waits_longer_than_the_bound(data):
    """2 fair periods, a camera period, and a batch for the engine and for each frame prepared ahead."""
    count = data.draw(st.integers(2, 12))
    names = [f"c{i}" for i in range(count)]
    weights = {n: data.draw(st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0])) for n in names}
    rates = {n: data.draw(st.sampled_from([5.0, 10.0, 15.0, 30.0, 60.0])) for n in names}
    seconds = data.draw(st.floats(1.15, 5.0)) / sum(rates.values())
    noise = data.draw(st.sampled_from([0.0, 0.05, 0.2]))
    scenario = Scenario(
        cameras={n: CameraPolicy(deadline=5.0, weight=weights[n]) for n in names},
        sources={n: Source(rates[n]) for n in names},
        prepare=Service({(0, 1): [seconds * data.draw(st.floats(0.05, 0.6))]}, noise),
        engine=Service({(0, 1): [seconds]}, noise),
        seconds=6.0,
        ahead=data.draw(st.integers(1, 2)),
        seed=data.draw(st.integers(0, 10_000)),
    )
    trace = simulate(scenario, scenario.scheduler())
    runs = [run for run in trace.runs if run.start >= 1.0]  # the load is known by then
    longest = max(run.end - run.start for run in runs)
    starts = defaultdict(list)
    for run in runs:
        starts[run.frames[0].camera].append(run.start)
    for name in names:
        fair_period = longest * sum(weights.values()) / weights[name]
        bound = 2 * fair_period + (1 + scenario.ahead) * longest + 1 / rates[name]
        times = [1.0, *starts[name], scenario.seconds]
        # A tenth more: a light camera was alone for a moment, then many wake (docs/scheduling.md, Limits).
        assert max(b - a for a, b in pairwise(times)) <= 1.1 * bound, name
