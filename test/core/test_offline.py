"""Answers to recordings, image by image, as the live pipeline gives them."""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from watched import STAND_IN, TILING, Watched, asking, picture

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.budget import ladder
from argus_ros.core.checkpoint import Tiling
from argus_ros.core.engine_client import EngineDownError, EngineState
from argus_ros.core.image import Image, ImageError, Region
from argus_ros.core.offline import Offline
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.types import Outcome, Task


@pytest.mark.slow
def test_offline_answers_image_by_image() -> None:
    with Offline(EngineConfig("good"), TILING, command=STAND_IN) as engine:
        for value in range(0, 250, 25):
            answer = engine.run(picture(value), Task("detect", ("cone",)), Region(20, 10, 40, 20))
            assert answer.text == f"{value} cone"
            assert answer.detections[0].x_min == 20
            assert 0 < answer.times.prepare < answer.times.total
        with pytest.raises(ImageError):
            engine.run(picture(), Task(), Region(100, 100))
        with pytest.raises(EngineDownError, match="refused"):
            engine.run(picture(), Task(prompt="refuse"))
        with pytest.raises(EngineDownError, match="about to crash"):
            engine.run(picture(), Task(prompt="crash"))
        while engine.engine.state is not EngineState.RUNNING:
            time.sleep(0.01)
        assert engine.run(picture(7), Task()).text == "7"


def test_offline_without_a_model() -> None:
    with (
        pytest.raises(EngineDownError, match="no checkpoint 'missing'"),
        Offline(EngineConfig("missing"), TILING, command=STAND_IN),
    ):
        pass


@pytest.mark.slow
def test_a_real_engine_live_and_offline_agree(watch: Callable[..., Watched], checkpoint: Path) -> None:
    real = (sys.executable, "-m", "argus_ros.vlm.worker")
    tiling = Tiling(64)
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    image = Image(noise, "rgb8", 64, 48, 192)
    watched = watch({"front": asking("", "cone")}, str(checkpoint), tiling=tiling, command=real)
    watched.ready()
    watched.offer(image)
    live = watched.report()
    assert live.outcome is Outcome.PUBLISHED
    assert live.answer is not None
    with Offline(EngineConfig(str(checkpoint), device="cpu"), tiling, command=real) as engine:
        answer = engine.run(image, Task("detect", ("cone",)))
    offline, alive = ([(d.label, d.x_min, d.y_max) for d in a.detections] for a in (answer, live.answer))
    assert offline == alive
    assert answer.times.decode > 0


@pytest.mark.slow
def test_a_real_engine_with_cameras_that_misbehave(watch: Callable[..., Watched], checkpoint: Path) -> None:
    """One at 1,000 Hz, one with stamps of zero, one that comes and goes; with all that may be switched on."""
    model = checkpoints.read(checkpoint)
    watched = watch(
        {"fast": asking("", "cone"), "unstamped": asking()},
        str(checkpoint),
        config={"preset": "edge"},
        tiling=model.tiling,
        levels=ladder(model, "edge"),
        command=(sys.executable, "-m", "argus_ros.vlm.worker"),
    )
    watched.ready()
    assert watched.pipeline.engine.info
    assert watched.pipeline.engine.info.frame_seconds > 0
    noise = np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), np.uint8)
    end = time.monotonic() + 3.0
    for i in itertools.count():
        now = time.monotonic()
        if now > end:
            break
        image = Image(noise[i // 50 % 8], "rgb8", 64, 48, 192)
        watched.offer(image, "fast")
        if i % 40 == 0:
            watched.pipeline.set_camera("guest", asking("", "ball"))
            watched.offer(image, "guest")
        if i % 40 == 30:
            watched.pipeline.remove_camera("guest")
        if i % 30 == 0:
            watched.offer(image, "unstamped", age=time.time())
        time.sleep(max(0.0, now + 0.001 - time.monotonic()))
    last = watched.offer(image, "unstamped")
    found = []
    while not found or found[-1].header != last:
        found.append(watched.report())
    published = Counter(r.camera for r in found if r.outcome is Outcome.PUBLISHED)
    assert published.keys() >= {"fast", "unstamped"}
    assert {r.level for r in found} <= {0, 1, 2}
    outcomes = {Outcome.PUBLISHED, Outcome.SUPERSEDED, Outcome.STALE, Outcome.WITHHELD}
    assert {r.outcome for r in found} <= outcomes
    for camera in published:
        headers = [r.header for r in found if r.camera == camera and r.outcome is Outcome.PUBLISHED]
        assert headers == sorted(headers), "in order"
    assert watched.pipeline.engine.restarts == 0
