"""Input that makes no sense, and cameras that misbehave, do not disturb the pipeline."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
from watched import Watched, asking, picture

from argus_ros.core.frame import CameraPolicy
from argus_ros.core.pipeline import Camera
from argus_ros.core.types import Outcome


@pytest.mark.parametrize("stamps", ["zero", "future", "repeated", "back"])
def test_stamps_that_make_no_sense(watch: Callable[..., Watched], stamps: str) -> None:
    watched = watch({"front": Camera(CameraPolicy(deadline=2.0))})
    watched.ready()
    now = time.time_ns()
    for i in range(8):
        stamp = {
            "zero": 0,
            "future": now + (i + 1) * 10**9,
            "repeated": now,
            "back": now - i * 10**8,
        }[stamps]
        watched.offered.append(i)
        watched.pipeline.offer("front", picture(), i, stamp, time.time_ns())
        report = watched.report()
        assert report.outcome is Outcome.PUBLISHED
        assert 0.0 <= report.age <= 2.5
    assert len(watched.warnings) == (0 if stamps == "repeated" else 1)


@pytest.mark.slow
def test_a_thousand_images_a_second(watch: Callable[..., Watched]) -> None:
    watched = watch({"fast": asking("brief"), "slow": asking("brief")})
    watched.ready()
    end = time.monotonic() + 1.0
    while (now := time.monotonic()) < end:
        watched.offer(camera="fast")
        if not len(watched.offered) % 100:
            watched.offer(camera="slow")
        time.sleep(max(0.0, now + 0.001 - time.monotonic()))
    found = watched.all_reports().values()
    published = Counter(r.camera for r in found if r.outcome is Outcome.PUBLISHED)
    assert published["fast"] >= 2
    assert published["slow"] >= 2
    assert {r.outcome for r in found} <= {Outcome.PUBLISHED, Outcome.SUPERSEDED, Outcome.ENGINE_DOWN}


@pytest.mark.slow
def test_cameras_that_appear_and_vanish_while_frames_are_on_their_way(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking("brief")}, config={"preset": "realtime+still_gate"})
    watched.ready()
    for i in range(150):
        watched.pipeline.set_camera("rear", asking("brief" if i % 3 else ""))
        watched.offer(picture(i), camera="rear")
        if i % 2:
            watched.offer(picture(2 * i % 200), camera="front")
        time.sleep(0.001 * (i % 5))  # caught in each of its states
        watched.pipeline.remove_camera("rear")
    last = watched.offer(picture(255))
    while watched.report().header != last:  # all threads are alive
        pass
