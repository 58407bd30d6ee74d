"""Runs the scheduler, the preparation of frames and the engine: images in, answers out.

The newest frame of each camera wins, deadlines hold, and every frame offered ends in exactly one report.
(Recordings use ``offline.Offline`` instead.)

Frames are prepared in the threads of ``preparers.py``. The engine client's own thread takes the answers,
hands the engine the next prepared frame (``runs.py``), and only then publishes, so that the engine does not
wait for a publisher. Whether an answer is in time is decided right before its publication.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from argus_ros.core import recipes
from argus_ros.core.checkpoint import Tiling
from argus_ros.core.clock import StampClock
from argus_ros.core.engine_client import UP, EngineClient, EngineState
from argus_ros.core.frame import CameraPolicy, Ended, Frame, Level, PolicyError, State
from argus_ros.core.image import Image, Region
from argus_ros.core.job import Job, Report, in_whole_image
from argus_ros.core.latency import LatencyModel
from argus_ros.core.load import Load
from argus_ros.core.preparers import Preparers, prepare
from argus_ros.core.protocol import Answered, EngineConfig
from argus_ros.core.questions import AskError, Newest, Questions
from argus_ros.core.reports import Reporter
from argus_ros.core.runs import PUBLISH_MARGIN, Runs
from argus_ros.core.scheduler import PAUSED, FrameScheduler
from argus_ros.core.still import StillGate
from argus_ros.core.types import Outcome, Status, Task

log = logging.getLogger(__name__)

#: Maximum number of frames in one pass of an engine with recipe ``camera_batch``.
MAX_BATCH = 4


@dataclass(frozen=True)
class Camera:
    """The task and the policy of one camera."""

    policy: CameraPolicy = field(default_factory=CameraPolicy)
    task: Task = field(default_factory=Task)
    region: Region = field(default_factory=Region)  #: of interest, in pixels of its images


class Pipeline:
    """Takes images of cameras and reports the outcome of each.

    ``on_result`` gets the report of each frame to publish; ``on_report`` gets the report of every frame
    offered, exactly once, after its publication if there was one; ``on_event`` gets the engine's changes of
    state; ``on_warning`` gets a sentence about clocks, or about a deadline that cannot be met. Callbacks run
    in threads of the pipeline, or in the thread of ``offer`` where a frame ends at once. Reports never
    overlap.

    ``levels`` is the budget ladder (``budget.ladder``). An engine that takes ``hang_factor`` times the
    prediction for a frame, and more than ``hang_seconds``, is killed and restarted. With ``publish_late``,
    which can be set at any time, late answers are published too, marked LATE. ``still_seconds`` is how long
    recipe ``still_gate`` may repeat an answer. Other options are those of ``EngineClient``; the number of
    slots is chosen here. Raises ValueError for an unknown preset.
    """

    def __init__(
        self,
        config: EngineConfig,
        tiling: Tiling,
        cameras: Mapping[str, Camera],
        *,
        on_result: Callable[[Report], None],
        on_report: Callable[[Report], None] = lambda report: None,
        on_event: Callable[[EngineState, str], None] = lambda state, text: None,
        on_warning: Callable[[str], None] = log.warning,
        levels: Sequence[Level] = (Level(),),
        max_clock_skew: float = 5.0,
        hang_factor: float = 20.0,
        hang_seconds: float = 5.0,
        publish_late: bool = False,
        still_seconds: float = 1.0,
        **engine_options: Any,
    ) -> None:
        wanted = recipes.preset(config.preset)
        ahead = 1 if wanted.overlap else 0
        most = MAX_BATCH if wanted.overlap and wanted.camera_batch else 1  # see _ready
        self.tiling = tiling
        self.engine = EngineClient(
            replace(config, slots=max(ahead, most) + 2 + most + 1),
            on_answer=self._answered,
            on_event=self._engine_event,
            **engine_options,
        )
        self.reporter = Reporter(on_result, on_report, len(levels), publish_late)
        self._on_event, self._on_warning = on_event, on_warning
        self._lock = threading.RLock()  # guards what follows
        self._cameras = dict(cameras)
        self._questions = Questions()
        self.scheduler = FrameScheduler(
            {name: camera.policy for name, camera in cameras.items()},
            levels,
            LatencyModel(),
            ahead=ahead,
        )
        self._clock = StampClock(max_clock_skew)
        self._gate = StillGate(still_seconds) if wanted.still_gate else None
        self._prepared: dict[str, Frame] = {}  # newest of each camera, for the gate
        self._runs = Runs(self.engine, self.scheduler, hang_factor, hang_seconds)
        self._answers: deque[Frame] = deque()  # to be published, in this order
        self._enabled = True
        self._up = False  # whether the engine takes frames
        self._preparers = Preparers(
            self._lock,
            choose=self._choose,
            work=self._work,
            predict=lambda frame: self.scheduler.latency.predict("prepare", frame.level),
            wakeup=self._next_wakeup,
        )

    # --- life -----------------------------------------------------------------------------------

    @property
    def publish_late(self) -> bool:
        """Whether late answers are published too, marked LATE."""
        return self.reporter.publish_late

    @publish_late.setter
    def publish_late(self, value: bool) -> None:
        self.reporter.publish_late = value

    def start(self) -> None:
        """Start the engine's process and the threads; frames are taken once the model is loaded."""
        self._preparers.start()
        self.engine.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End everything within ``timeout`` seconds; what is on its way is reported as ENGINE_DOWN."""
        with self._lock:
            self._preparers.stop()
        end = time.monotonic() + timeout
        self.engine.stop(timeout)
        self._preparers.join(end)
        with self._lock:
            self.scheduler.engine_down("the pipeline was stopped")
            for frame in self._preparers.frames:  # still decoding, and not to be waited for
                self.scheduler.drop(frame, Outcome.ENGINE_DOWN, "the pipeline was stopped", end)
            ended = self._take_ended()
        self.reporter.report(ended)

    # --- cameras --------------------------------------------------------------------------------

    def set_camera(self, name: str, camera: Camera) -> None:
        """Add a camera or change one; frames already begun keep what they began with. Raises PolicyError."""
        with self._lock:
            self.scheduler.set_policy(name, camera.policy)
            self._cameras[name] = camera
            self._forget(name)

    def set_cameras(self, cameras: Mapping[str, Camera]) -> None:
        """Replace all cameras. With PolicyError, nothing changes."""
        warnings = []
        with self._lock:
            changed = {name: camera for name, camera in cameras.items() if camera != self._cameras.get(name)}
            for name, camera in changed.items():
                known = self._cameras.get(name)
                if known is None or known.policy.deadline != camera.policy.deadline:
                    warnings.append(self.scheduler.check_deadline(name, camera.policy))
            for name in self._cameras.keys() - cameras.keys():
                self.remove_camera(name)
            for name, camera in changed.items():
                self.set_camera(name, camera)
        for warning in filter(None, warnings):
            self._on_warning(warning)

    def remove_camera(self, name: str) -> None:
        with self._lock:
            self.scheduler.remove_camera(name)
            self._clock.forget(name)
            self._forget(name)
            self._questions.forget(name)
            del self._cameras[name]
            self._preparers.wake()

    def offer(
        self,
        camera: str,
        image: Image,
        header: Any,
        stamp: int,
        ros_now: int,
        arrival: float | None = None,
        *,
        shared: bool = False,
    ) -> None:
        """Take an image stamped ``stamp``; returns at once.

        ``ros_now`` is the time of arrival on the clock of the stamp (both in nanoseconds), ``arrival`` the
        same on the steady clock (default: now). ``shared``: several publishers send the camera's images, so
        that stamps may be out of order. ``header`` is passed on to the report unchanged. Raises KeyError for
        an unknown camera.
        """
        now = time.monotonic() if arrival is None else arrival
        with self._lock:
            job = Job(header, image, self._cameras[camera].task, self._cameras[camera].region)
            stamped = self._clock.arrive(camera, stamp, ros_now, now, shared=shared)
            for cleared in stamped.clear:
                self.scheduler.clear("time went back", cleared)
                self._forget(cleared)
                self._questions.forget(cleared)
            self._questions.keep(camera, Newest(header, image, stamped.capture_time, now))
            frame = self.scheduler.offer(camera, stamped.capture_time, now, job)
            # A frame may end at once, for example above its rate cap; then no thread has work.
            if not self._preparers.running or frame.state is State.ENDED:
                ended = self._take_ended()
            else:
                ended = []
                self._preparers.wake(camera)
        if stamped.warning:
            self._on_warning(stamped.warning)
        if ended:
            self.reporter.report(ended)

    def ask(self, camera: str, task: Task, deadline: float, on_end: Callable[[Report], None]) -> None:
        """Run ``task`` on a camera's newest image, in addition to its stream; returns at once.

        ``deadline``: maximum seconds from now to the answer; 0: the camera's own. ``on_end`` gets one report
        in a thread of the pipeline, at the deadline at the latest: PUBLISHED with the answer, or the reason
        why there is none. Its age counts from the image, its total time from now. Raises AskError where the
        question cannot be answered.
        """
        now = time.monotonic()
        with self._lock:
            known = self._cameras.get(camera)
            if known is None:
                raise AskError(f"there is no camera {camera!r}; there is {', '.join(self._cameras)}")
            if not self._enabled:
                raise AskError(PAUSED)
            newest = self._questions.newest(camera, now)
            try:
                policy = CameraPolicy(deadline or known.policy.deadline, work=task.name, probed=False)
                self.scheduler.check_deadline(camera, policy)
            except PolicyError as error:
                raise AskError(str(error)) from None
            question, job = self._questions.begin(camera, newest, task, known.region, on_end)
            self.scheduler.set_policy(question, policy)
            self.scheduler.offer(question, now, now, job)
            self._preparers.wake(question)
            ended = [] if self._preparers.running else self._take_ended()
        self.reporter.report(ended)

    def clear(self, reason: str) -> None:
        """Drop all frames held and all images kept."""
        with self._lock:
            self.scheduler.clear(reason)
            self._questions.clear()
            for camera in self._cameras:
                self._forget(camera)
            self._preparers.wake()

    def set_enabled(self, enabled: bool) -> None:
        """Process frames, or end them as DISABLED; nothing is published after this has returned.

        Cameras and the engine's process with its model stay as they are.
        """
        with self._lock:
            self._enabled = enabled
            self.scheduler.set_enabled(enabled)
            ended = self._take_ended()
            self._preparers.wake()
        self.reporter.report(ended)  # waits for a publication that has begun

    def counts(self) -> dict[str, Counter[Outcome]]:
        """Frames reported so far, per camera and outcome, also of removed cameras."""
        return self.reporter.counts()

    def load(self) -> Load:
        with self._lock:
            return self.scheduler.load()

    def shortest_deadline(self) -> float:
        """Seconds that the cheapest frame is predicted to take; 0 while that is unknown."""
        with self._lock:
            return self.scheduler.shortest_deadline()

    # --- the preparation's threads --------------------------------------------------------------

    def _work(self, frame: Frame | None, ended: Sequence[Ended]) -> None:
        self.reporter.report(ended)
        if frame:
            self._prepare(frame)
            self._publish()

    def _choose(self, now: float) -> tuple[Frame | None, list[Ended]]:
        """Send work to the engine; the frame to prepare now, and frames that ended. The lock is held."""
        self._runs.start(now)
        frame = self.scheduler.next_prepare(now)
        ended = self._take_ended()  # frees the slot of a frame that this one replaces
        ended += self._runs.overdue(now)
        if frame:
            self._begin(frame)
        return frame, ended

    def _next_wakeup(self) -> float | None:
        """When to check again if nothing else happens. The lock is held."""
        times = [frame.deadline for frame in self._runs.questions()]
        scheduled = self.scheduler.next_wakeup()
        return min(times if scheduled is None else [*times, scheduled], default=None)

    def _begin(self, frame: Frame) -> None:
        """Start a frame; later changes of its camera do not affect it. The lock is held."""
        job: Job = frame.payload
        if not job.question:
            camera = self._cameras[frame.camera]
            job.task, job.region = camera.task, camera.region
        job.slot = self.engine.acquire()

    def _prepare(self, frame: Frame) -> None:
        job: Job = frame.payload
        most = self.scheduler.levels[frame.level].max_tiles
        tiling = self.tiling.limited(most) if most else self.tiling
        compared = self._gate is not None and not job.question
        error = prepare(frame, self.engine, tiling, compared)
        now = time.monotonic()
        job.prepare_seconds = now - frame.prepare_started
        with self._lock:
            self._preparers.frames.remove(frame)
            if error:
                self.scheduler.drop(frame, Outcome.UNDECODABLE, error, now)
            else:
                self.scheduler.prepared(frame, now)
                if job.snapshot:
                    self._prepared[frame.camera] = frame
                    self._reuse(frame.camera, now)

    def _reuse(self, camera: str, now: float) -> None:
        """Answer a prepared frame without the engine if its scene is unchanged. The lock is held."""
        frame = self._prepared.get(camera)
        if not (self._gate and frame and frame.state is State.PREPARED):
            return
        if self._runs.has(camera):  # that is to come first
            return
        job: Job = frame.payload
        assert job.snapshot is not None
        job.answer = self._gate.recall(camera, job.snapshot)
        if job.answer:
            self.scheduler.answered(frame, now)
            self._answers.append(frame)
            self._release(job)

    def _forget(self, camera: str) -> None:
        """Forget a camera's prepared frame and last answer. The lock is held."""
        self._prepared.pop(camera, None)
        if self._gate:
            self._gate.forget(camera)

    # --- the engine client's thread -------------------------------------------------------------

    def _answered(self, answered: Answered) -> None:
        with self._lock:
            now = time.monotonic()
            frame = self._runs.end(answered.id)
            job: Job = frame.payload
            if answered.error:
                self.scheduler.drop(frame, Outcome.ENGINE_DOWN, answered.error, now)
            elif job.prepared:
                job.answer = in_whole_image(answered.answer, job.prepared.region)
                truncated = answered.answer.status is Status.TRUNCATED
                at_deadline = (
                    truncated and now >= frame.deadline - PUBLISH_MARGIN
                )  # else by the limit of tokens
                self.scheduler.answered(frame, now, truncated=at_deadline)
                self._answers.append(frame)
                self._runs.answered(frame)
                if self._gate and job.snapshot and not frame.drop_outcome:
                    self._gate.remember(frame.camera, job.snapshot, job.answer)
            self._release(job)
            self._reuse(frame.camera, now)
            self._runs.start(now)
            ended = self._take_ended()
            self._preparers.wake()
        self._publish()
        self.reporter.report(ended)

    def _engine_event(self, state: EngineState, text: str) -> None:
        complaints: list[str] = []
        with self._lock:
            if state in UP:
                if not self._up:
                    complaints = self._ready()
                self._up = True
            else:
                self._up = False
                self.scheduler.engine_down(f"the engine is {state.value}" + (f": {text}" if text else ""))
            self._preparers.wake()
        self._on_event(state, text)
        for complaint in complaints:
            self._on_warning(complaint)

    def _ready(self) -> list[str]:
        """Apply the engine's description; returns why deadlines cannot be met. The lock is held."""
        info, scheduler = self.engine.info, self.scheduler
        assert info is not None
        if info.frame_seconds and not self._runs.known:
            scheduler.latency = LatencyModel({("run", 0, 1): info.frame_seconds})
        if "camera_batch" in info.recipes and scheduler.ahead:
            scheduler.ahead = scheduler.max_batch = MAX_BATCH
        scheduler.engine_up()
        complaints = []
        for name, camera in self._cameras.items():
            try:
                complaints.append(scheduler.check_deadline(name, camera.policy))
            except PolicyError as error:
                complaints.append(str(error))
        return [complaint for complaint in complaints if complaint]

    # --- reports --------------------------------------------------------------------------------

    def _take_ended(self) -> list[Ended]:
        """Ended frames, after their memory is released. The lock is held."""
        ended = self.scheduler.take_ended()
        for end in ended:
            if end.frame.payload.question:
                self.scheduler.remove_camera(end.frame.camera)
                self._questions.end(end.frame.camera)
            if end.frame not in self._runs:  # else it is free once the engine lets go of it
                self._release(end.frame.payload)
        return ended

    def _release(self, job: Job) -> None:
        if job.slot is not None:
            self.engine.release(job.slot)
            job.slot = None

    def _publish(self) -> None:
        """Publish answers in order, each checked against its deadline right before its publication."""
        with self.reporter.lock:
            while True:
                with self._lock:
                    if not self._answers:
                        return
                    now = time.monotonic()
                    self.scheduler.finished(self._answers.popleft(), now)
                    ended = self._take_ended()
                ended.sort(key=lambda end: end.outcome is not Outcome.PUBLISHED)  # published first
                self.reporter.report(ended, now)
