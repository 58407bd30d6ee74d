"""The preparation of frames, and the two threads that do it.

The second one works only while the first has been at one picture for long, so that a picture that is slow to
decode holds up its own camera alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from argus_ros.core.checkpoint import Tiling
from argus_ros.core.engine_client import EngineClient
from argus_ros.core.frame import Ended, Frame
from argus_ros.core.image import ImageError
from argus_ros.core.job import Job
from argus_ros.core.preparation import fill
from argus_ros.core.still import Snapshot, thumbnail

log = logging.getLogger(__name__)

#: Seconds that a picture may be prepared for before other cameras' are prepared beside it: at least this,
#: and this many times what is predicted.
SLOW_SECONDS, SLOW_FACTOR = 0.1, 3.0

Choice = tuple[Frame | None, Sequence[Ended]]


class Preparers:
    """Chooses frames and works on them, in both threads, from ``start`` to ``stop``.

    ``choose`` is given the time, and returns the frame to prepare, if there is one, and frames that have
    ended; ``work`` gets both. ``predict`` says how many seconds the preparation of a frame should take, and
    ``wakeup`` when to choose again though nothing has happened. The lock is held for all but ``work``.
    """

    def __init__(
        self,
        lock: threading.RLock,
        *,
        choose: Callable[[float], Choice],
        work: Callable[[Frame | None, Sequence[Ended]], None],
        predict: Callable[[Frame], float],
        wakeup: Callable[[], float | None],
    ) -> None:
        self.frames: list[Frame] = []  #: being prepared, oldest first; guarded by the lock
        self._choose, self._work, self._predict, self._wakeup = choose, work, predict, wakeup
        self._changed = threading.Condition(lock)
        self._held_up = threading.Condition(lock)  # a camera waits while another's picture is prepared
        self._stopping = False
        self._threads = (
            threading.Thread(target=self._run, name="preparation", daemon=True),
            threading.Thread(target=self._help, name="preparation 2", daemon=True),
        )

    @property
    def running(self) -> bool:
        """Whether what is offered will be looked at by one of the threads."""
        return not self._stopping and self._threads[0].ident is not None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the threads end once they have done what they are at. The lock is held."""
        self._stopping = True
        self._changed.notify_all()
        self._held_up.notify_all()

    def join(self, until: float) -> None:
        """Wait for the threads to end, at most to this time."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(until - time.monotonic(), 0.0))

    def wake(self, camera: str = "") -> None:
        """There is work, for ``camera`` if that is given. The lock is held."""
        self._changed.notify_all()
        if self.frames and (self.frames[0].slow or (camera and self.frames[0].camera != camera)):
            self._held_up.notify()

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                frame, ended = self._next()
                if not frame and not ended and not self._stopping:
                    self._changed.wait(_until(self._next_wakeup()))
            self._work(frame, ended)

    def _help(self) -> None:
        """The same while one picture takes long to prepare."""
        while not self._stopping:
            with self._changed:
                slow_at = self._slow_at()
                slow = slow_at is not None and time.monotonic() >= slow_at
                frame, ended = self._next() if slow else (None, [])
                if not frame and not ended and not self._stopping:
                    self._held_up.wait(_until(self._next_wakeup() if slow else slow_at))
            self._work(frame, ended)

    def _next(self) -> Choice:
        now = time.monotonic()
        slow_at = self._slow_at()
        if slow_at is not None and now >= slow_at:
            self.frames[0].slow = True
        frame, ended = self._choose(now)
        if frame:
            self.frames.append(frame)
        return frame, ended

    def _slow_at(self) -> float | None:
        """When the picture that is being prepared starts to count as slow."""
        if not self.frames:
            return None
        oldest = self.frames[0]
        return oldest.prepare_started + max(SLOW_SECONDS, SLOW_FACTOR * self._predict(oldest))

    def _next_wakeup(self) -> float | None:
        """When to choose again though nothing has happened."""
        slow_at = None if self.frames and self.frames[0].slow else self._slow_at()
        return min((when for when in (slow_at, self._wakeup()) if when is not None), default=None)


def prepare(frame: Frame, engine: EngineClient, tiling: Tiling, compared: bool) -> str:
    """Fill the frame's slot with its pixels; returns what is wrong with its image, if anything.

    ``compared``: also make what the still gate compares.
    """
    job: Job = frame.payload
    assert job.image is not None
    assert job.slot is not None
    error = ""
    try:
        job.size = job.image.size()
        slot = engine.slot(job.slot)
        job.prepared = fill(slot, job.image, job.region, tiling, engine.takes_frames)
        if compared:
            question = (job.task, job.prepared.region, job.size)
            pixels = job.prepared.pixels(slot, tiling.tile)
            view = thumbnail(pixels if pixels.ndim == 3 else pixels[-1])
            job.snapshot = Snapshot(view, question, frame.level, frame.capture_time)
    except ImageError as refused:
        error = str(refused)
    except Exception as mistake:  # an error in one frame must not end the thread
        log.exception("a frame of camera %s could not be prepared", frame.camera)
        error = f"{type(mistake).__name__}: {mistake}"
    job.image = None
    return error


def _until(when: float | None) -> float | None:
    return None if when is None else max(when - time.monotonic(), 0.0) + 0.001
