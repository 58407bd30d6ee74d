"""Three cameras on one model: late answers, throughput over the engine's own, and the gain of overlap.

    python bench/three_cameras.py [--model argus-nano] [--trials 5] [--seconds 8] [--json FILE]

A slow, a still and a fast camera are rendered and offered together, at twice the engine's rate. These
alternate, several times: the engine alone on prepared frames, one by one (its bare rate), the pipeline, the
pipeline without camera_batch, and also without overlap, each with its own engine process. Ratios are computed
within a turn, so that other load affects all. No ROS is needed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from argus_ros.core import budget
from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.engine_client import EngineClient
from argus_ros.core.frame import CameraPolicy
from argus_ros.core.image import Image
from argus_ros.core.job import Report
from argus_ros.core.pipeline import Camera, Pipeline
from argus_ros.core.preparation import Prepared, fill
from argus_ros.core.protocol import Answered, EngineConfig, FrameRequest
from argus_ros.core.types import Outcome, Task
from argus_ros.tools import machine
from argus_ros.training.scenes.film import Walk, film

WALKS = {
    "slow": Walk(3, 4.0, speed=0.7),
    "still": Walk(4, 4.0, speed=0.0),
    "fast": Walk(5, 4.0, speed=1.4),
}
#: Frames are offered at this many times the engine's bare rate, all cameras together.
OVERLOAD = 2.0
#: Seconds at the start of each turn that are not counted.
LEAD = 1.0

Films = dict[str, list[Image]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="argus-nano", help="a shipped checkpoint or a folder")
    parser.add_argument("--trials", type=int, default=5, help="number of turns")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a turn")
    parser.add_argument("--deadline", type=float, default=0.5, help="maximum age of an answer, seconds")
    parser.add_argument("--preset", default="realtime", help="latency recipes")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the engine")
    parser.add_argument("--json", type=Path, default=Path("bench/results/three_cameras.json"))
    given = parser.parse_args()

    model = checkpoints.read(given.model)
    films = {name: [_image(shot.image) for shot in film(walk)] for name, walk in WALKS.items()}
    config = EngineConfig(given.model, preset=given.preset, threads=given.threads)
    presets = {
        "pipeline": given.preset,
        "one_by_one": f"{given.preset}-camera_batch",
        "no_overlap": f"{given.preset}-camera_batch-overlap",
    }
    with ExitStack() as stack:
        bare = Bare(model, config, films)
        stack.callback(bare.client.stop)
        pipelines = {}
        for name, preset in presets.items():
            pipelines[name] = Live(model, replace(config, preset=preset), given.deadline, films)
            stack.callback(pipelines[name].pipeline.stop)
        bare.run(LEAD)
        turns = []
        for trial in range(given.trials):
            turn: dict[str, Any] = {"bare_rate": bare.run(given.seconds)}
            for name, live in pipelines.items():
                turn[name] = live.run(given.seconds, OVERLOAD * turn["bare_rate"])
            turns.append(turn)
            rates = ", ".join(f"{name} {turn[name]['rate']:.1f}" for name in pipelines)
            print(f"turn {trial + 1}: bare {turn['bare_rate']:.1f} frames/s, {rates}", flush=True)
    figures = summarise(turns)
    show(figures)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    options = {k: str(v) for k, v in vars(given).items() if k != "json"}
    result = {**machine.describe(), "options": options, **figures, "turns": turns}
    given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(given.json)


def _image(rgb: np.ndarray) -> Image:
    height, width = rgb.shape[:2]
    return Image(rgb, "rgb8", width, height, 3 * width)


class Bare:
    """The engine alone, with the next prepared frame after each answer."""

    def __init__(self, model: Checkpoint, config: EngineConfig, films: Films) -> None:
        self._answers: list[Answered] = []
        self._end = 0.0
        self._ended = threading.Event()
        self.client = EngineClient(config, on_answer=self._answered)
        self.client.start()
        info = self.client.wait_ready()
        self._tile = info.tile
        slot = self.client.acquire()
        assert slot is not None, "no other user of the slots"
        self._slot = slot
        self._frames = itertools.cycle(
            [
                (name, *self._prepare(image, model))
                for images in zip(*films.values(), strict=True)
                for name, image in zip(films, images, strict=True)
            ]
        )

    def run(self, seconds: float) -> float:
        """Frames per second."""
        self._answers.clear()
        self._ended.clear()
        start = time.monotonic()
        self._end = start + seconds
        self._submit()
        self._ended.wait()
        took = time.monotonic() - start
        if error := self._answers[-1].error:
            raise RuntimeError(error)
        return len(self._answers) / took

    def _answered(self, answered: Answered) -> None:
        self._answers.append(answered)
        if answered.error or time.monotonic() >= self._end:
            self._ended.set()
        else:
            self._submit()

    def _submit(self) -> None:
        camera, prepared, pixels = next(self._frames)
        prepared.pixels(self.client.slot(self._slot), self._tile)[:] = pixels
        size = prepared.region.width, prepared.region.height
        grid = prepared.rows, prepared.columns
        request = FrameRequest(len(self._answers), self._slot, *grid, *size, Task("detect"), camera)
        self.client.submit([replace(request, taken=time.monotonic(), frame=prepared.frame)])

    def _prepare(self, image: Image, model: Checkpoint) -> tuple[Prepared, np.ndarray]:
        slot = self.client.slot(self._slot)
        prepared = fill(slot, image, None, model.tiling, self.client.takes_frames)
        return prepared, prepared.pixels(slot, self._tile).copy()


class Live:
    """The pipeline, with cameras at a steady rate, and the answers it publishes."""

    def __init__(self, model: Checkpoint, config: EngineConfig, deadline: float, films: Films) -> None:
        self._deadline = deadline
        self._films = {name: itertools.cycle(images) for name, images in films.items()}
        self._reports: list[Report] = []
        self._ages: list[tuple[str, float]] = []  # on reception
        self.pipeline = Pipeline(
            config,
            model.tiling,
            {name: Camera(CameraPolicy(deadline), Task("detect")) for name in films},
            on_result=self._receive,
            on_report=self._reports.append,
            levels=budget.ladder(model, config.preset),
        )
        self.pipeline.start()
        self.pipeline.engine.wait_ready()

    def _receive(self, report: Report) -> None:
        self._ages.append((report.camera, time.monotonic() - report.header))

    def run(self, seconds: float, rate: float) -> dict[str, Any]:
        """Offer ``rate`` frames per second over all cameras; returns their outcomes after the lead."""
        pause = threading.Event()
        start = time.monotonic()
        counted = 0
        for i, name in enumerate(itertools.cycle(self._films)):
            due = start + i / rate
            if due > start + LEAD + seconds:
                break
            pause.wait(max(0.0, due - time.monotonic()))
            if not counted and due >= start + LEAD:
                counted = i
                self._reports.clear()
                self._ages.clear()
                begun = time.monotonic()
            now, ros_now = time.monotonic(), time.time_ns()
            self.pipeline.offer(name, next(self._films[name]), now, ros_now, ros_now, now)
        took = time.monotonic() - begun
        reports, ages = self._reports.copy(), self._ages.copy()
        outcomes = {
            name: Counter(r.outcome.name.lower() for r in reports if r.camera == name) for name in WALKS
        }
        published = [r for r in reports if r.outcome is Outcome.PUBLISHED]
        return {
            "rate": len(ages) / took,
            "offered_rate": rate,
            "published_late": sum(age > self._deadline for _, age in ages),
            "withheld": sum(r.outcome is Outcome.WITHHELD for r in reports),
            "truncated": sum(r.answer.status.name == "TRUNCATED" for r in published if r.answer),
            "age_s": {name: _quantiles([age for camera, age in ages if camera == name]) for name in WALKS},
            "outcomes": outcomes,
        }


def _quantiles(values: list[float]) -> dict[str, float]:
    p50, p99 = np.quantile(values, (0.5, 0.99)) if values else (0.0, 0.0)
    return {"p50": float(p50), "p99": float(p99), "max": max(values, default=0.0)}


def summarise(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios are medians over the turns; counts are sums."""
    median = statistics.median
    return {
        "published": sum(sum(t["pipeline"]["outcomes"][c]["published"] for c in WALKS) for t in turns),
        "published_late": sum(t["pipeline"]["published_late"] for t in turns),
        "withheld": sum(t["pipeline"]["withheld"] for t in turns),
        "bare_rate": median(t["bare_rate"] for t in turns),
        "throughput_ratio": median(t["pipeline"]["rate"] / t["bare_rate"] for t in turns),
        "one_by_one_ratio": median(t["one_by_one"]["rate"] / t["bare_rate"] for t in turns),
        "overlap_ratio": median(t["one_by_one"]["rate"] / t["no_overlap"]["rate"] for t in turns),
        "age_max_s": max(t["pipeline"]["age_s"][c]["max"] for t in turns for c in WALKS),
    }


def show(figures: dict[str, Any]) -> None:
    print(f"on {len(os.sched_getaffinity(0))} cores:")
    print(f"  published later than their deadline  {figures['published_late']} of {figures['published']}")
    print(f"  withheld because they were late     {figures['withheld']}")
    print(f"  the engine's bare rate               {figures['bare_rate']:.1f} frames/s")
    print(f"  throughput against that              {figures['throughput_ratio']:.3f}")
    print(f"  the same without camera_batch        {figures['one_by_one_ratio']:.3f}")
    print(f"  overlap on against off, without that {figures['overlap_ratio']:.3f}")


if __name__ == "__main__":
    main()
