"""Runs the engine on recordings: every image, one at a time, without a deadline."""

from __future__ import annotations

import itertools
import queue
import time
from dataclasses import replace
from types import TracebackType
from typing import Any

from argus_ros.core.checkpoint import Tiling
from argus_ros.core.engine_client import EngineClient, EngineDownError
from argus_ros.core.image import Image, Region
from argus_ros.core.job import engine_request, in_whole_image
from argus_ros.core.preparation import fill
from argus_ros.core.protocol import Answered, EngineConfig
from argus_ros.core.types import Answer, Task


class Offline:
    """An engine for one image at a time, without a deadline; a context manager.

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
            raise EngineDownError("no slot of the shared memory is free; call run from one thread at a time")
        try:
            prepared = fill(self.engine.slot(slot), image, region, self.tiling, self.engine.takes_frames)
            seconds = time.monotonic() - started
            id = next(self._ids)
            self.engine.submit([engine_request(id, slot, prepared, task)])
            while (answered := self._answers.get()).id != id:  # answers of an interrupted call
                pass
        finally:
            self.engine.release(slot)
        if answered.error:
            raise EngineDownError(answered.error)
        times = replace(answered.answer.times, prepare=seconds, total=time.monotonic() - started)
        return replace(in_whole_image(answered.answer, prepared.region), times=times)
