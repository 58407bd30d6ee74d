"""The still gate in the pipeline: an unchanged scene is answered without the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from watched import PATIENCE, Watched, asking, picture

from argus_ros.core.types import Outcome, Status

GATED = {"preset": "realtime+still_gate"}


def answered(watched: Watched, *arguments: Any, **options: Any) -> tuple[Status, str]:
    watched.offer(*arguments, **options)
    report = watched.report()
    assert report.outcome is Outcome.PUBLISHED
    assert report.answer is not None
    return report.answer.status, report.answer.text


def test_an_unchanged_scene_is_answered_without_the_engine(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking(), "rear": asking()}, config=GATED, still_seconds=PATIENCE)
    watched.ready()
    assert answered(watched, picture(50)) == (Status.OK, "50")
    assert answered(watched, picture(52)) == (Status.REUSED, "50")
    assert answered(watched, picture(52), "rear") == (Status.OK, "52"), "each camera has its own"
    assert answered(watched, picture(70)) == (Status.OK, "70")
    assert answered(watched, picture(70, 96)) == (Status.OK, "70"), "another size"
    assert answered(watched, picture(70, 96))[0] is Status.REUSED
    watched.pipeline.set_camera("front", asking("", "ball"))
    assert answered(watched, picture(70, 96)) == (Status.OK, "70 ball")
    assert answered(watched, picture(70, 96))[0] is Status.REUSED
    watched.pipeline.clear("a test")
    assert answered(watched, picture(70, 96))[0] is Status.OK


@pytest.mark.slow
def test_the_gate_is_off_unless_asked_for(watch: Callable[..., Watched]) -> None:
    watched = watch({"front": asking()})
    watched.ready()
    assert [answered(watched, picture(50))[0] for _ in range(2)] == [Status.OK] * 2


@pytest.mark.slow
def test_a_repeated_answer_never_overtakes(watch: Callable[..., Watched]) -> None:
    """Frames offered faster than the engine works come out in order, the gate or not."""
    watched = watch({"front": asking("brief")}, config=GATED, still_seconds=PATIENCE)
    watched.ready()
    for i in range(200):
        watched.offer(picture(50 if i % 40 else i))
        time.sleep(0.002)
    reports = watched.all_reports().values()
    published = [r for r in reports if r.outcome is Outcome.PUBLISHED]
    assert {r.answer.status for r in published if r.answer} == {Status.OK, Status.REUSED}
