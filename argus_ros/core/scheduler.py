"""Decides which camera's frame is prepared and run next, at which budget level, and which is dropped.

Pure bookkeeping: no threads, no clocks, no pixels. Every method takes ``now``, seconds on the steady
clock. The caller holds one lock around it and, after every event, calls in this order::

    frame = scheduler.offer(camera, capture_time, now, payload)   # an image arrived
    batch = scheduler.next_run(now)                       # start the engine on these, if any
    while frame := scheduler.next_prepare(now): ...       # give to the preparing thread
    scheduler.prepared(frame, now)                        # the preparing thread is done
    scheduler.answered(frame, now)                        # the engine is free for the next
    publish = scheduler.finished(frame, now)              # before publication: is it in time?
    for ended in scheduler.take_ended(): ...              # every offered frame ends here, exactly once

docs/scheduling.md explains the policy.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from argus_ros.core.frame import CameraPolicy, CameraState, Ended, Frame, Level, PolicyError, State
from argus_ros.core.latency import LatencyModel
from argus_ros.core.load import Load, LoadWatch
from argus_ros.core.ordering import Ordering
from argus_ros.core.types import Outcome

PROBE_INTERVAL = 1.0  #: seconds without a run after which a late frame of a camera is run as a probe
BUSY = 4.0  #: factor by which a busy machine may slow down a frame
PAUSED = "work is paused; service ~/enable resumes it"
SLACK_TO_CLIMB = 0.1  #: spare part of the deadline that a frame needs for a higher level


class FrameScheduler:
    """Keeps the newest frame of every camera and decides, one event at a time.

    ``levels`` is the budget ladder, cheapest first. ``ahead`` is how many frames may be prepared while the
    engine runs (0: none, no overlap); ``max_batch`` how many prepared frames may run together. At most
    ``ahead + 2 + max_batch`` frames, plus those marked ``slow``, are between ``next_prepare`` and their
    answer at any time. The engine is down until ``engine_up`` is called. Raises PolicyError where ``latency``
    shows that the fastest level takes longer than a camera's deadline.
    """

    def __init__(
        self,
        cameras: Mapping[str, CameraPolicy],
        levels: Sequence[Level],
        latency: LatencyModel,
        *,
        ahead: int = 1,
        max_batch: int = 1,
    ) -> None:
        if not levels:
            raise ValueError("levels is empty; give at least one budget level")
        if ahead < 0 or not 1 <= max_batch <= max(1, ahead):
            raise ValueError(f"max_batch is {max_batch}; with ahead={ahead} it can be 1 to {max(1, ahead)}")
        self.levels = tuple(levels)
        self.latency = latency
        self.ahead = ahead
        self.max_batch = max_batch
        self.counts: dict[str, Counter[Outcome]] = {}  #: frames ended, per camera, also of removed ones
        self.offered: Counter[str] = Counter()  #: frames offered, per camera, also of removed ones
        self._cameras: dict[str, CameraState] = {}
        self._waiting: dict[str, CameraState] = {}  # cameras with a frame waiting
        self._selected: list[Frame] = []  # being prepared or prepared, in the order selected
        self._running: list[Frame] = []
        self._answered: list[Frame] = []  # about to be published
        self._batch = 0  # size of the batch that runs
        self._ended: list[Ended] = []
        self._ids = itertools.count(1)
        self._down = "the engine is not ready yet"
        self._enabled = True
        self._order = Ordering()
        self._watch = LoadWatch()
        for name, policy in cameras.items():
            self.set_policy(name, policy)

    # --- cameras --------------------------------------------------------------------------------

    def set_policy(self, camera: str, policy: CameraPolicy) -> None:
        """Add a camera or change its policy; frames already selected keep their deadline.

        Raises PolicyError, and changes nothing, where a new deadline is too short.
        """
        known = self._cameras.get(camera)
        if known is None or policy.deadline != known.policy.deadline:  # else the engine is slow
            self.check_deadline(camera, policy)
        if known is None:
            self._cameras[camera] = CameraState(camera, policy, level=self._watch.load.level)
            self.counts.setdefault(camera, Counter())
            return
        known.change(policy)
        self._order.reset(known)

    def check_deadline(self, camera: str, policy: CameraPolicy) -> str:
        """A warning about a deadline that no level is predicted to meet now; "" if there is one.

        Raises PolicyError for one that is too short even on an idle machine, with the shortest possible one.
        Other processes may slow the machine down for a while, so a slow machine alone is no error.
        """
        shortest, work = self.shortest_deadline(policy.work), policy.work
        if policy.deadline >= shortest:
            return ""
        deadline = f"camera {camera}: deadline {policy.deadline:.3f} s"
        least = self.latency.least("prepare", 0) + self.latency.least(work, 0)
        if policy.deadline * BUSY < least:
            raise PolicyError(
                f"{deadline} is shorter than the fastest level takes ({self.levels[0].name}); "
                f"the shortest that works is {math.ceil(least * 1e3) / 1e3:.3f} s"
            )
        return (
            f"{deadline} is tight: the fastest level ({self.levels[0].name}) takes {shortest:.3f} s now, "
            "so images are dropped; give the camera a longer deadline, or stop other work on this machine"
        )

    def shortest_deadline(self, work: str = "run") -> float:
        """Predicted seconds of the lowest level; 0 while unknown."""
        return self.latency.predict("prepare", 0) + self.latency.predict(work, 0)

    def remove_camera(self, camera: str) -> None:
        """Remove a camera; its frames end as STALE, a pending answer as WITHHELD."""
        self.clear(f"camera {camera} was removed", camera)
        del self._cameras[camera]

    def clear(self, reason: str, camera: str | None = None) -> None:
        """Drop the frames of one camera or of all, when time goes back; pending answers are withheld."""
        for frame in self._held():
            if camera in (None, frame.camera):
                ran = frame.state in (State.RUNNING, State.ANSWERED)
                drop_outcome = Outcome.WITHHELD if ran else Outcome.STALE
                self._drop_held(frame, drop_outcome, reason)
        for known in self._cameras.values():
            if camera in (None, known.name):
                known.allowed = known.offered = -math.inf

    # --- the engine -----------------------------------------------------------------------------

    def engine_up(self) -> None:
        """The engine is ready to run frames."""
        self._down = ""

    def engine_down(self, reason: str) -> None:
        """The engine is down: frames without an answer, and later frames, end as ENGINE_DOWN."""
        self._down = reason
        for frame in self._held():
            if frame.state is State.RUNNING:
                self._end(frame, Outcome.ENGINE_DOWN, reason)
            elif frame.state is not State.ANSWERED:
                self._drop_held(frame, Outcome.ENGINE_DOWN, reason)

    def set_enabled(self, enabled: bool) -> None:
        """Accept frames; or end all frames held and later ones as DISABLED, also those with an answer."""
        self._enabled = enabled
        if not enabled:
            for frame in self._held():
                self._drop_held(frame, Outcome.DISABLED, PAUSED)

    # --- frames ---------------------------------------------------------------------------------

    def offer(self, camera: str, capture_time: float, now: float, payload: Any = None) -> Frame:
        """Accept a new frame with its ``capture_time``. Raises KeyError for an unknown camera."""
        known = self._cameras[camera]
        policy = known.policy
        frame = Frame(
            next(self._ids), camera, capture_time, now, capture_time + policy.deadline, payload, policy.work
        )
        self.offered[camera] += 1
        known.note_arrival(now)
        if not self._enabled:
            self._end(frame, Outcome.DISABLED, PAUSED)
        elif self._down:
            self._end(frame, Outcome.ENGINE_DOWN, self._down)
        elif known.waiting:  # replaces it, without counting again towards the rate cap
            self._end(known.waiting, Outcome.SUPERSEDED, "a newer frame came before it was prepared")
            self._wait(known, frame)
        elif not known.admits(now):
            cap = known.policy.rate_cap
            self._end(frame, Outcome.RATE_LIMITED, f"the camera's rate cap is {cap:g} frames per second")
        else:
            self._wait(known, frame)
        return frame

    def next_prepare(self, now: float) -> Frame | None:
        """The frame to prepare next, at its ``level``; None if there is none."""
        self._refresh(now)
        self._expire(now)
        free = self._engine_free(now)
        room = self.ahead if self._running else max(self.ahead, 1)
        while self._waiting:
            camera, old = self._candidate(room, now, free)
            if camera is None:
                return None
            frame = camera.waiting
            assert frame is not None
            if self._choose_level(camera, frame, old, now, free):
                self._select(camera, frame, old, now)
                return frame
        return None

    def prepared(self, frame: Frame, now: float) -> None:
        """Preparation of a frame from ``next_prepare`` is done."""
        if not frame.slow:  # a slow one is not typical for other cameras' frames
            self.latency.observe("prepare", frame.level, 1, now - frame.prepare_started)
        frame.slow = False
        if frame.state is not State.PREPARING:
            return
        camera = self._cameras.get(frame.camera)
        if frame.drop_outcome or camera is None or camera.preparing is not frame:
            self._end(frame, *(frame.drop_outcome or (Outcome.STALE, "its camera was removed")))
            return
        old, camera.preparing, camera.prepared = camera.prepared, None, frame
        frame.state = State.PREPARED
        if old:
            frame.virtual_cost, frame.priority, old.virtual_cost = old.virtual_cost, old.priority, 0.0
            self._end(old, Outcome.SUPERSEDED, "a newer frame was prepared in time to take its place")
        elif not frame.virtual_cost:  # the frame that it should replace has run meanwhile
            self._order.account(camera, frame, self._engine_seconds(frame.level, frame.work))

    def next_run(self, now: float) -> list[Frame]:
        """The frames to run now, as one batch; empty while the engine is busy or nothing is prepared."""
        self._refresh(now)
        self._expire(now)
        if self._running or self._down:
            return []
        queue = sorted(
            (f for f in self._selected if f.state is State.PREPARED), key=lambda frame: frame.priority
        )
        batch: list[Frame] = []
        for frame in queue:
            if batch:
                if len(batch) < self.max_batch and self._joins(batch, frame, now):
                    batch.append(frame)
                continue
            finish = now + self.latency.predict(frame.work, frame.level)
            if finish <= frame.deadline or frame.probe or self._probe(frame, now):
                batch.append(frame)
            else:
                self._end(frame, Outcome.STALE, f"it would finish {finish - frame.deadline:.3f} s late")
        for frame in batch:
            camera = self._cameras[frame.camera]
            camera.prepared = None
            camera.probe_at = now + PROBE_INTERVAL
            if camera.preparing:  # to replace this one, which ends the camera's wait for a run
                camera.preparing.probe = False
            frame.state, frame.run_started = State.RUNNING, now
            self._selected.remove(frame)
        self._running, self._batch = batch.copy(), len(batch)
        return batch

    def answered(self, frame: Frame, now: float, *, truncated: bool = False) -> None:
        """The engine has answered a frame; ``finished`` follows just before its publication.

        ``truncated``: the engine stopped at the deadline, so the duration is not measured. A frame answered
        without the engine (an unchanged scene) comes here right after its preparation.
        """
        if frame.state is State.RUNNING:
            if len(self._running) == 1:  # the batch is complete
                seconds = now - frame.run_started
                self.latency.observe(frame.work, frame.level, self._batch, seconds, at_least=truncated)
        elif frame.state not in (State.PREPARING, State.PREPARED):
            return
        self._release(frame, now)
        frame.state = State.ANSWERED
        self._answered.append(frame)

    def finished(self, frame: Frame, now: float, *, truncated: bool = False) -> bool:
        """A frame's answer is about to be published: True if it is in time, else it is withheld."""
        self.answered(frame, now, truncated=truncated)
        if frame.state is not State.ANSWERED:
            return False
        if frame.drop_outcome:
            self._end(frame, *frame.drop_outcome)
            return False
        age = now - frame.capture_time
        if now > frame.deadline:
            self._end(frame, Outcome.WITHHELD, f"it came {now - frame.deadline:.3f} s late")
            return False
        if frame.probe and frame.camera in self._cameras:  # the engine has recovered: probe again at once
            self._cameras[frame.camera].probe_at = now
        why = "a probe, predicted to be late" if frame.probe else frame.reason
        self._end(frame, Outcome.PUBLISHED, f"{age:.3f} s old; {why}")
        return True

    def drop(self, frame: Frame, outcome: Outcome, reason: str, now: float) -> None:
        """End a frame after an error: its image cannot be decoded, or the engine failed on it."""
        if frame.state is not State.ENDED:
            self._end(frame, *(frame.drop_outcome or (outcome, reason)), now=now)

    def take_ended(self) -> list[Ended]:
        """The frames that ended since the last call, in order, each with outcome and reason."""
        ended, self._ended = self._ended, []
        return ended

    def next_wakeup(self) -> float | None:
        """When to call again without an event: the earliest deadline of a frame that has not started."""
        held = [c.waiting.deadline for c in self._waiting.values() if c.waiting]
        return min(held + [f.deadline for f in self._selected if f.state is State.PREPARED], default=None)

    def load(self) -> Load:
        """Load, order and budget level at the last measurement."""
        return self._watch.load

    # --- decisions ------------------------------------------------------------------------------

    def _candidate(self, room: int, now: float, free: float) -> tuple[CameraState | None, Frame | None]:
        """The camera whose waiting frame to prepare, and its prepared frame to replace, if any.

        Two exceptions to ``room`` apply if the frame is prepared before the engine is free: one more frame
        may be prepared if it has priority over all selected ones, and a newer frame may replace a prepared
        one, which is kept until then.
        """
        in_time = now + self.latency.predict("prepare", self._watch.load.level) < free
        selected = [f for f in self._selected if not f.slow]
        ready = [c for c in self._waiting.values() if not c.preparing and not c.prepared]
        if ready and (len(selected) < room or (in_time and len(selected) == room > 0)):
            camera = self._first(ready)
            if len(selected) < room or camera.priority < min(f.priority for f in selected):
                return camera, None
        if in_time and len(selected) < room + 2:
            for frame in selected:
                newer = self._waiting.get(frame.camera)
                if newer and newer.prepared is frame and not newer.preparing:
                    return newer, frame
        return None, None

    def _first(self, ready: list[CameraState]) -> CameraState:
        chosen = {frame.camera for frame in (*self._selected, *self._running)}
        competing = [c for c in self._cameras.values() if c.waiting or c.name in chosen]
        seconds = {c.name: self._engine_seconds(self._watch.load.level, c.policy.work) for c in ready}
        return self._order.first(ready, competing, seconds)

    def _choose_level(
        self, camera: CameraState, frame: Frame, old: Frame | None, now: float, free: float
    ) -> bool:
        """Set the highest level at which the frame is in time; else make it a probe, or end it as stale."""
        predict = self.latency.predict
        queue = free + sum(self._engine_seconds(f.level, f.work) for f in self._selected if f is not old)
        finish = now
        for level in range(self._watch.load.level, -1, -1):
            finish = max(now + predict("prepare", level), queue) + predict(frame.work, level)
            slack = SLACK_TO_CLIMB * camera.policy.deadline if level > camera.level else 0.0
            if finish + slack <= frame.deadline:
                frame.level = level
                return True
        frame.level = 0
        if self._probe(frame, now):
            return True
        self._end(
            frame, Outcome.STALE, f"it would finish {finish - frame.deadline:.3f} s late at the lowest level"
        )
        return False

    def _probe(self, frame: Frame, now: float) -> bool:
        """Run a late frame if its camera had no run for a while, or its last probe was in time."""
        camera = self._cameras[frame.camera]
        frame.probe = camera.policy.probed and camera.probe_at <= now < frame.deadline
        return frame.probe

    def _joins(self, batch: list[Frame], frame: Frame, now: float) -> bool:
        """Whether a larger batch keeps all frames in time, and is no slower than separate runs."""
        if (frame.level, frame.work) != (batch[0].level, batch[0].work):
            return False
        predict = self.latency.predict
        seconds = predict(frame.work, frame.level, len(batch) + 1)
        alone = predict(frame.work, frame.level, len(batch)) + predict(frame.work, frame.level)
        return seconds <= alone and all(now + seconds <= f.deadline for f in [*batch, frame])

    def _select(self, camera: CameraState, frame: Frame, old: Frame | None, now: float) -> None:
        """Give a waiting frame to preparation and account for its cost."""
        self._waiting.pop(camera.name)
        camera.waiting, camera.preparing, camera.level = None, frame, frame.level
        if not old:
            self._order.account(camera, frame, self._engine_seconds(frame.level, frame.work))
        frame.reason = f"{self._order.reason}, level {self.levels[frame.level].name}"
        frame.state, frame.prepare_started = State.PREPARING, now
        self._selected.append(frame)

    def _engine_free(self, now: float) -> float:
        if not self._running:
            return now
        first = self._running[0]
        return max(now, first.run_started + self.latency.typical(first.work, first.level, self._batch))

    def _engine_seconds(self, level: int, work: str = "run") -> float:
        """Engine seconds per frame, in batches where these are faster."""
        return min(self.latency.typical(work, level, n) / n for n in range(1, self.max_batch + 1))

    def _refresh(self, now: float) -> None:
        """Measure the load; change the order of cameras if the load requires it."""
        self._watch.update(now, self._cameras.values(), len(self.levels), self._seconds_of_level)
        self._order.switch(self.load().overloaded, self._cameras.values(), self._selected)

    def _seconds_of_level(self, level: int) -> float:
        """Seconds of one frame in the slower stage; in both stages where they do not overlap."""
        run, prepare = self._engine_seconds(level), self.latency.typical("prepare", level)
        return max(run, prepare) if self.ahead else run + prepare

    # --- bookkeeping ----------------------------------------------------------------------------

    def _wait(self, camera: CameraState, frame: Frame) -> None:
        if camera.name not in self._waiting and not camera.preparing and not camera.prepared:
            self._order.join(camera, self._engine_seconds(self._watch.load.level))
        camera.waiting = frame
        self._waiting[camera.name] = camera

    def _expire(self, now: float) -> None:
        """End frames whose deadline has passed."""
        late = [c.waiting for c in self._waiting.values() if c.waiting and c.waiting.deadline < now]
        late += [f for f in self._selected if f.state is State.PREPARED and f.deadline < now]
        for frame in late:
            self._end(frame, Outcome.STALE, "its deadline passed while it waited")

    def _held(self) -> list[Frame]:
        waiting = [c.waiting for c in self._waiting.values() if c.waiting]
        return [*waiting, *self._selected, *self._running, *self._answered]

    def _drop_held(self, frame: Frame, outcome: Outcome, reason: str) -> None:
        """End a frame: now or, while it is being prepared or run, as soon as that is done."""
        if frame.state in (State.PREPARING, State.RUNNING, State.ANSWERED):
            frame.drop_outcome = (outcome, reason)
        else:
            self._end(frame, outcome, reason)

    def _end(self, frame: Frame, outcome: Outcome, reason: str, *, now: float | None = None) -> None:
        """End a frame: release it and count its outcome. Every frame ends here."""
        self._release(frame, now)
        frame.state, frame.reason = State.ENDED, reason
        self.counts[frame.camera][outcome] += 1
        self._ended.append(Ended(frame, outcome, reason))

    def _release(self, frame: Frame, now: float | None) -> None:
        """Release the frame and correct its camera's virtual time to the engine's time until ``now``."""
        camera = self._cameras.get(frame.camera)
        if frame.state is State.RUNNING:
            self._running.remove(frame)
            if camera and now is not None:
                self._order.settle(camera, frame, (now - frame.run_started) / self._batch)
        elif frame.state in (State.PREPARING, State.PREPARED):
            self._selected.remove(frame)
            if camera:
                self._order.settle(camera, frame, 0.0)
        elif frame.state is State.ANSWERED:
            self._answered.remove(frame)
        if camera:
            if camera.waiting is frame:
                del self._waiting[camera.name]
            camera.release(frame)
