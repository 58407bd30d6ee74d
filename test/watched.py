"""A pipeline whose reports tests wait for, with a small process in place of the engine."""

from __future__ import annotations

import itertools
import queue
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from argus_ros.core.checkpoint import Tiling
from argus_ros.core.engine_client import EngineState
from argus_ros.core.frame import CameraPolicy
from argus_ros.core.image import Image
from argus_ros.core.job import Report
from argus_ros.core.pipeline import Camera, Pipeline
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.types import Outcome, Task

STAND_IN = (sys.executable, str(Path(__file__).with_name("core") / "stand_in_worker.py"))
TILING = Tiling(32, 64)
PATIENCE = 60.0
UNHURRIED = CameraPolicy(deadline=PATIENCE)


def picture(value: int = 50, width: int = 64, height: int = 48) -> Image:
    return Image(np.full((height, width, 3), value, np.uint8), "rgb8", width, height, width * 3)


def asking(prompt: str = "", *classes: str, **more: Any) -> Camera:
    return Camera(UNHURRIED, Task("detect", classes, prompt), **more)


class Watched:
    """A pipeline with what it reported, to be waited for."""

    def __init__(self, cameras: dict[str, Camera], checkpoint: str = "good", **options: Any) -> None:
        self.results: queue.Queue[Report] = queue.Queue()
        self.reports: queue.Queue[Report] = queue.Queue()
        self.states: queue.Queue[EngineState] = queue.Queue()
        self.lines: queue.Queue[str] = queue.Queue()
        self.warnings: list[str] = []
        self.offered: list[int] = []
        self._headers = itertools.count()
        self.pipeline = Pipeline(
            EngineConfig(checkpoint, device="cpu", threads=1, **options.pop("config", {})),
            options.pop("tiling", TILING),
            cameras,
            on_result=self.results.put,
            on_report=self.reports.put,
            on_event=lambda state, text: self.states.put(state),
            on_warning=self.warnings.append,
            on_log=self.lines.put,
            **{"command": STAND_IN, **options},
        )

    def ready(self) -> None:
        while (state := self.states.get(timeout=PATIENCE)) is not EngineState.RUNNING:
            assert state is not EngineState.FAILED, self.pipeline.engine.last_error

    def offer(self, image: Image | None = None, camera: str = "front", age: float = 0.0) -> int:
        header = next(self._headers)
        ros_now = time.time_ns()
        self.offered.append(header)
        self.pipeline.offer(camera, image or picture(), header, ros_now - int(age * 1e9), ros_now)
        return header

    def report(self) -> Report:
        return self.reports.get(timeout=PATIENCE)

    def report_of_next(self) -> Report:
        self.offer()
        return self.report()

    def asleep(self) -> None:
        assert self.lines.get(timeout=PATIENCE) == "asleep"

    def all_reports(self) -> dict[int, Report]:
        """Stop, then check that every frame offered was reported once, and those published as results."""
        self.pipeline.stop()
        found = [self.reports.get_nowait() for _ in range(self.reports.qsize())]
        assert sorted(report.header for report in found) == self.offered
        published = [report.header for report in found if report.outcome is Outcome.PUBLISHED]
        assert [self.results.get_nowait().header for _ in range(self.results.qsize())] == published
        counts = sum(self.pipeline.counts().values(), Counter())
        assert counts == Counter(report.outcome for report in found)
        return {report.header: report for report in found}
