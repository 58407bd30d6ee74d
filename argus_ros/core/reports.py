"""Reports the outcome of each frame: publishes answers, counts outcomes, answers questions."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from argus_ros.core.frame import Ended
from argus_ros.core.job import Job, Report
from argus_ros.core.types import Outcome, StageTimes, Status

log = logging.getLogger(__name__)


class Reporter:
    """Calls back for frames that have ended, one at a time: see ``Pipeline`` for the callbacks.

    ``levels`` is the number of budget levels. ``lock`` is held during every callback.
    """

    def __init__(
        self,
        on_result: Callable[[Report], None],
        on_report: Callable[[Report], None],
        levels: int,
        publish_late: bool,
    ) -> None:
        self.on_result, self.on_report = on_result, on_report
        self.publish_late = publish_late
        self.lock = threading.RLock()  # also guards the counts
        self._levels = levels
        self._counts: dict[str, Counter[Outcome]] = {}

    def counts(self) -> dict[str, Counter[Outcome]]:
        """Frames reported so far, by camera and outcome."""
        with self.lock:
            return {camera: Counter(counts) for camera, counts in self._counts.items()}

    def report(self, ended: Sequence[Ended], now: float | None = None) -> None:
        """Report the outcome of frames, as of ``now`` (steady clock; default: the present time)."""
        with self.lock:
            for end in ended:
                self._report(end, time.monotonic() if now is None else now)

    def _report(self, end: Ended, started: float) -> None:
        report = self._describe(end, started)
        job: Job = end.frame.payload
        if job.question:
            if not job.reported:
                job.reported = True
                self._call(job.question.on_end, report)
            return
        withheld = end.outcome is Outcome.WITHHELD and end.frame.drop_outcome is None
        if self.publish_late and withheld and report.answer:
            late = replace(report.answer, status=Status.LATE)
            report = replace(report, outcome=Outcome.PUBLISHED, answer=late)
        self._counts.setdefault(report.camera, Counter())[report.outcome] += 1
        if report.outcome is Outcome.PUBLISHED:
            self._call(self.on_result, report)
            done = time.monotonic()
            times = replace(report.times, publish=done - started, total=done - end.frame.arrived)
            report = replace(report, times=times, age=done - end.frame.capture_time)
        self._call(self.on_report, report)

    def _describe(self, end: Ended, now: float) -> Report:
        frame = end.frame
        job: Job = frame.payload
        begun = frame.prepare_started or now
        question = job.question
        reused = job.answer is not None and job.answer.status is Status.REUSED
        times = replace(
            job.answer.times if job.answer else StageTimes(),
            wait=begun - frame.arrived,
            prepare=job.prepare_seconds,
            total=now - frame.arrived,
        )
        return Report(
            camera=question.camera if question else frame.camera,
            header=job.header,
            outcome=end.outcome,
            reason=f"{end.reason}, from an unchanged scene" if reused else end.reason,
            task=job.task,
            answer=replace(job.answer, times=times) if job.answer else None,
            times=times,
            age=now - (question.capture_time if question else frame.capture_time),
            width=job.size[0],
            height=job.size[1],
            # The scheduler counts levels from the lowest, messages count cuts from the full budget.
            level=self._levels - 1 - frame.level if frame.prepare_started else 0,
            engine_start=frame.run_started - frame.arrived if frame.run_started else 0.0,
        )

    @staticmethod
    def _call(callback: Callable[[Report], None], report: Report) -> None:
        try:
            callback(report)
        except Exception:  # an error in a callback must not affect other frames
            log.exception("a callback of the pipeline failed")
