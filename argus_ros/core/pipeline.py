"""From images offered to answers: the scheduler, the preparation of frames and the engine in one.

``Pipeline`` is for cameras that run: newest frame wins, deadlines hold, every frame offered ends in
exactly one report. ``Offline`` is for recordings: one image at a time, every image, no deadline.

Two threads work here. One prepares frames; the engine client's own takes the answers, hands the engine
the next frame that lies prepared, and only then reports, so that the engine does not wait for a publisher.
"""

from __future__ import annotations

import itertools
import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from argus_ros.core import recipes
from argus_ros.core.checkpoint import Tiling
from argus_ros.core.clock import StampClock
from argus_ros.core.engine_client import EngineClient, EngineDownError, EngineState
from argus_ros.core.image import Image, ImageError, Region
from argus_ros.core.latency import LatencyModel
from argus_ros.core.preparation import Prepared, prepare
from argus_ros.core.protocol import Answered, EngineConfig, FrameRequest
from argus_ros.core.scheduler import CameraPolicy, Ended, Frame, FrameScheduler, Level, Load
from argus_ros.core.types import Answer, Outcome, StageTimes, Status, Task

log = logging.getLogger(__name__)

#: Seconds the first frames may take, while nothing is known of the engine's speed.
FIRST_PATIENCE = 60.0
#: Seconds before a frame's deadline at which generation stops, so that the answer can be published.
PUBLISH_MARGIN = 0.005


@dataclass(frozen=True)
class Camera:
    """What a camera is promised and asked."""

    policy: CameraPolicy = field(default_factory=CameraPolicy)
    task: Task = field(default_factory=Task)
    region: Region = field(default_factory=Region)  #: of interest, pixels of its images


@dataclass(frozen=True)
class Report:
    """How a frame ended."""

    camera: str
    header: Any  #: as given to ``offer``
    outcome: Outcome
    reason: str
    task: Task  #: it was run with, or would have been
    answer: Answer | None  #: boxes in pixels of the whole image; None where the engine gave none
    times: StageTimes
    age: float  #: seconds since the image was taken
    width: int = 0  #: of the whole image; 0 where it was not looked at
    height: int = 0
    level: str = ""  #: name of the budget level


@dataclass(eq=False)
class _Job:
    """What travels with a frame."""

    header: Any
    image: Image | None  # None once it is prepared: its memory is the middleware's again
    task: Task
    region: Region
    size: tuple[int, int] = (0, 0)
    slot: int | None = None  # of the shared memory, while it has one
    prepared: Prepared | None = None
    prepare_seconds: float = 0.0
    answer: Answer | None = None


class Pipeline:
    """Cameras in, reports out.

    ``on_result`` gets the report of each frame that is to be published; ``on_report`` that of every frame
    offered, exactly once, after its publication if there was one; ``on_event`` the engine's changes of
    state; ``on_warning`` a sentence about the clocks. Callbacks come from threads of the pipeline,
    reports never two at a time. An engine that takes ``hang_factor`` times what is predicted for a frame,
    and more than ``hang_seconds``, is killed and started again. With ``publish_late``, which may be set
    at any time, answers past their deadline are published too, marked LATE. Other options are
    ``EngineClient``'s. Raises PolicyError, and ValueError for an unknown preset.
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
        **engine_options: Any,
    ) -> None:
        ahead = 1 if recipes.preset(config.preset).overlap else 0
        if config.slots < ahead + 2:  # one runs, one more may be prepared than waits
            raise ValueError(f"slots is {config.slots}; preset {config.preset} needs {ahead + 2} at least")
        self.tiling = tiling
        self.publish_late = publish_late
        self.hang_factor, self.hang_seconds = hang_factor, hang_seconds
        self.engine = EngineClient(
            config,
            on_answer=self._answered,
            on_event=self._engine_event,
            **engine_options,
        )
        self._on_result, self._on_report = on_result, on_report
        self._on_event, self._on_warning = on_event, on_warning
        self._changed = threading.Condition()  # guards what follows
        self._cameras = dict(cameras)
        self._scheduler = FrameScheduler(
            {name: camera.policy for name, camera in cameras.items()},
            levels,
            LatencyModel(),
            ahead=ahead,
        )
        self._clock = StampClock(max_clock_skew)
        self._running: dict[int, Frame] = {}  # given to the engine, by request id
        self._counts: dict[str, Counter[Outcome]] = {}
        self._stopping = False
        self._reporting = threading.RLock()  # also guards the counts
        self._thread = threading.Thread(target=self._work, name="preparation", daemon=True)

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine's process and the threads; frames are taken once the model is loaded."""
        self._thread.start()
        self.engine.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End everything within ``timeout`` seconds; what is on its way is reported as ENGINE_DOWN."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.engine.stop(timeout)
        if self._thread.ident is not None:
            self._thread.join()
        with self._changed:
            self._scheduler.engine_down("the pipeline was stopped")
            ended = self._take_ended()
        self._report(ended)

    # --- cameras --------------------------------------------------------------------------------

    def set_camera(self, name: str, camera: Camera) -> None:
        """Add a camera or change one; frames already begun keep what they began with. Raises PolicyError."""
        with self._changed:
            self._scheduler.set_policy(name, camera.policy)
            self._cameras[name] = camera

    def remove_camera(self, name: str) -> None:
        with self._changed:
            self._scheduler.remove_camera(name)
            self._clock.forget(name)
            del self._cameras[name]
            self._changed.notify_all()

    def offer(
        self,
        camera: str,
        image: Image,
        header: Any,
        stamp: int,
        ros_now: int,
        arrival: float | None = None,
    ) -> None:
        """Take an image stamped ``stamp``; returns at once.

        ``ros_now`` is the time on the clock of its stamp (both in nanoseconds) when it arrived, ``arrival``
        that on the steady clock; without it that is now. ``header`` comes back untouched with the report.
        Raises KeyError for an unknown camera.
        """
        now = time.monotonic() if arrival is None else arrival
        with self._changed:
            job = _Job(header, image, self._cameras[camera].task, self._cameras[camera].region)
            stamped = self._clock.arrive(camera, stamp, ros_now, now)
            for cleared in stamped.clear:
                self._scheduler.clear("time went back", cleared)
            self._scheduler.offer(camera, stamped.born, now, job)
            self._changed.notify_all()
            nobody = self._stopping or self._thread.ident is None
            ended = self._take_ended() if nobody else []
        if stamped.warning:
            self._on_warning(stamped.warning)
        if ended:
            self._report(ended)

    def clear(self, reason: str) -> None:
        """Drop what is held, for a camera's time that is gone."""
        with self._changed:
            self._scheduler.clear(reason)
            self._changed.notify_all()

    def counts(self) -> dict[str, Counter[Outcome]]:
        """Frames reported so far, per camera ever seen and outcome."""
        with self._reporting:
            return {camera: Counter(counts) for camera, counts in self._counts.items()}

    def load(self) -> Load:
        with self._changed:
            return self._scheduler.load()

    # --- the preparation's thread ---------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping:
            with self._changed:
                now = time.monotonic()
                self._run_next(now)
                frame = self._scheduler.next_prepare(now)
                ended = self._take_ended()  # frees the slot of a frame that this one replaces
                if frame:
                    self._begin(frame)
                if not frame and not ended and not self._stopping:
                    wakeup = self._scheduler.next_wakeup()
                    self._changed.wait(None if wakeup is None else max(wakeup - now, 0.0) + 0.001)
            self._report(ended)
            if frame:
                self._prepare(frame)

    def _begin(self, frame: Frame) -> None:
        """From here on changes of its camera pass the frame by. The lock is held."""
        job: _Job = frame.payload
        camera = self._cameras[frame.camera]
        job.task, job.region = camera.task, camera.region
        job.slot = self.engine.acquire()

    def _prepare(self, frame: Frame) -> None:
        job: _Job = frame.payload
        assert job.image is not None
        assert job.slot is not None
        tiling = _at_level(self.tiling, self._scheduler.levels[frame.level])
        error = ""
        try:
            job.size = job.image.size()
            job.prepared = prepare(job.image, job.region, tiling, self.engine.tiles(job.slot))
        except ImageError as refused:
            error = str(refused)
        except Exception as mistake:  # one frame must not end the thread
            log.exception("a frame of camera %s could not be prepared", frame.camera)
            error = f"{type(mistake).__name__}: {mistake}"
        job.image = None
        now = time.monotonic()
        job.prepare_seconds = now - frame.prepare_started
        with self._changed:
            if error:
                self._scheduler.drop(frame, Outcome.UNDECODABLE, error, now)
            else:
                self._scheduler.prepared(frame, now)

    def _run_next(self, now: float) -> None:
        """Give the engine what is prepared, if it is free. The lock is held."""
        frames = self._scheduler.next_run(now)
        if not frames:
            return
        requests = tuple(self._request(frame) for frame in frames)
        predicted = self._scheduler.latency.predict("run", frames[0].level, len(frames))
        patience = max(self.hang_seconds, self.hang_factor * predicted) if predicted else FIRST_PATIENCE
        try:
            self.engine.submit(requests, patience)
        except EngineDownError as error:
            for frame in frames:
                self._scheduler.drop(frame, Outcome.ENGINE_DOWN, str(error), now)
        else:
            self._running.update({frame.id: frame for frame in frames})

    def _request(self, frame: Frame) -> FrameRequest:
        job: _Job = frame.payload
        assert job.slot is not None
        assert job.prepared is not None
        return replace(
            _request(frame.id, job.slot, job.prepared, job.task),
            camera=frame.camera,
            max_detections=self._scheduler.levels[frame.level].max_detections,
            deadline=None if frame.probe else frame.due - PUBLISH_MARGIN,
        )

    # --- the engine client's thread -------------------------------------------------------------

    def _answered(self, answered: Answered) -> None:
        with self._changed:
            now = time.monotonic()
            frame = self._running.pop(answered.id)
            job: _Job = frame.payload
            if answered.error:
                self._scheduler.drop(frame, Outcome.ENGINE_DOWN, answered.error, now)
            elif job.prepared:
                job.answer = _moved(answered.answer, job.prepared.region)
                truncated = answered.answer.status is Status.TRUNCATED
                self._scheduler.finished(frame, now, truncated=truncated)
            self._release(job)
            self._run_next(now)
            ended = self._take_ended()
            self._changed.notify_all()
        self._report(ended)

    def _engine_event(self, state: EngineState, text: str) -> None:
        with self._changed:
            if state is EngineState.READY:
                self._scheduler.engine_up()
            else:
                self._scheduler.engine_down(f"the engine is {state.value}" + (f": {text}" if text else ""))
            self._changed.notify_all()
        self._on_event(state, text)

    # --- reports --------------------------------------------------------------------------------

    def _take_ended(self) -> list[Ended]:
        """What has ended, its memory free again. The lock is held."""
        ended = self._scheduler.take_ended()
        for end in ended:
            if end.frame.id not in self._running:  # else it is free once the engine lets go of it
                self._release(end.frame.payload)
        return ended

    def _release(self, job: _Job) -> None:
        if job.slot is not None:
            self.engine.release(job.slot)
            job.slot = None

    def _report(self, ended: Sequence[Ended]) -> None:
        with self._reporting:
            for end in ended:
                started = time.monotonic()
                report = self._describe(end, started)
                if (
                    self.publish_late
                    and report.answer
                    and end.frame.doom is None
                    and end.outcome is Outcome.WITHHELD
                ):
                    late = replace(report.answer, status=Status.LATE)
                    report = replace(report, outcome=Outcome.PUBLISHED, answer=late)
                self._counts.setdefault(report.camera, Counter())[report.outcome] += 1
                if report.outcome is Outcome.PUBLISHED:
                    self._call(self._on_result, report)
                    now = time.monotonic()
                    times = replace(report.times, publish=now - started, total=now - end.frame.arrived)
                    report = replace(report, times=times, age=now - end.frame.born)
                self._call(self._on_report, report)

    def _describe(self, end: Ended, now: float) -> Report:
        frame = end.frame
        job: _Job = frame.payload
        begun = frame.prepare_started or now
        times = replace(
            job.answer.times if job.answer else StageTimes(),
            wait=begun - frame.arrived,
            prepare=job.prepare_seconds,
            total=now - frame.arrived,
        )
        return Report(
            camera=frame.camera,
            header=job.header,
            outcome=end.outcome,
            reason=end.reason,
            task=job.task,
            answer=replace(job.answer, times=times) if job.answer else None,
            times=times,
            age=now - frame.born,
            width=job.size[0],
            height=job.size[1],
            level=self._scheduler.levels[frame.level].name,
        )

    @staticmethod
    def _call(callback: Callable[[Report], None], report: Report) -> None:
        try:
            callback(report)
        except Exception:  # the next frames must not suffer from it
            log.exception("a callback of the pipeline failed")


class Offline:
    """An engine for one image at a time: every image, no deadline. A context manager.

    Raises EngineDownError when the model cannot be loaded.
    """

    def __init__(self, config: EngineConfig, tiling: Tiling, **engine_options: Any) -> None:
        self.tiling = tiling
        self._answers: queue.SimpleQueue[Answered] = queue.SimpleQueue()
        self._ids = itertools.count()
        self.engine = EngineClient(config, on_answer=self._answers.put, **engine_options)

    def __enter__(self) -> Offline:
        self.engine.start()
        try:
            self.engine.wait_ready()
        except BaseException:
            self.engine.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.stop()

    def run(self, image: Image, task: Task, region: Region | None = None) -> Answer:
        """The answer, with boxes in pixels of the whole image. Raises ImageError and EngineDownError."""
        started = time.monotonic()
        slot = self.engine.acquire()
        if slot is None:
            raise EngineDownError("no slot of the shared memory is free; is it used by several threads?")
        try:
            prepared = prepare(image, region, self.tiling, self.engine.tiles(slot))
            seconds = time.monotonic() - started
            id = next(self._ids)
            self.engine.submit([_request(id, slot, prepared, task)])
            while (answered := self._answers.get()).id != id:  # of a call that was interrupted
                pass
        finally:
            self.engine.release(slot)
        if answered.error:
            raise EngineDownError(answered.error)
        times = replace(answered.answer.times, prepare=seconds, total=time.monotonic() - started)
        return replace(_moved(answered.answer, prepared.region), times=times)


def _request(id: int, slot: int, prepared: Prepared, task: Task) -> FrameRequest:
    region = prepared.region
    return FrameRequest(id, slot, prepared.rows, prepared.columns, region.width, region.height, task)


def _moved(answer: Answer, region: Region) -> Answer:
    """The answer with boxes moved from the region of interest into the whole image."""
    x, y = region.x, region.y
    boxes = (
        replace(d, x_min=d.x_min + x, x_max=d.x_max + x, y_min=d.y_min + y, y_max=d.y_max + y)
        for d in answer.detections
    )
    return replace(answer, detections=tuple(boxes))


def _at_level(tiling: Tiling, level: Level) -> Tiling:
    """The tiling within a budget level's tiles, whatever the picture's shape."""
    if not level.max_tiles:
        return tiling
    side = math.isqrt(max(level.max_tiles - 1, 0))
    return replace(tiling, longest_edge=min(tiling.longest_edge, side * tiling.tile))
