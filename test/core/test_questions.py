"""Questions about a camera's newest image, beside its stream, with a real process at the other end."""

from __future__ import annotations

import contextlib
import queue
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from argus_ros.core import questions as module
from argus_ros.core.checkpoint import Tiling
from argus_ros.core.engine_client import EngineState
from argus_ros.core.frame import CameraPolicy
from argus_ros.core.image import Image, Region
from argus_ros.core.job import Report
from argus_ros.core.pipeline import Camera, Pipeline
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.questions import QUESTIONS, AskError
from argus_ros.core.types import Outcome, Task

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in_worker.py")))
PATIENCE = 60.0
STREAM = Camera(CameraPolicy(deadline=PATIENCE), Task("detect", ("cone",)))
QUESTION = Task("ask", ("ball",))


class Asked:
    """A pipeline, what its streams report, and what is answered."""

    def __init__(self, cameras: dict[str, Camera]) -> None:
        self.reports: queue.Queue[Report] = queue.Queue()
        self.answers: queue.Queue[Report] = queue.Queue()
        self.lines: queue.Queue[str] = queue.Queue()
        self._states: queue.Queue[EngineState] = queue.Queue()
        self.pipeline = Pipeline(
            EngineConfig("good", device="cpu", threads=1),
            Tiling(32, 64),
            cameras,
            on_result=lambda report: None,
            on_report=self.reports.put,
            on_event=lambda state, text: self._states.put(state),
            on_log=self.lines.put,
            command=STAND_IN,
        )

    def ready(self) -> None:
        while self._states.get(timeout=PATIENCE) is not EngineState.RUNNING:
            pass

    def offer(self, value: int = 50, header: str = "image", camera: str = "front", age: float = 0.0) -> None:
        image = Image(np.full((48, 64, 3), value, np.uint8), "rgb8", 64, 48, 192)
        now = time.time_ns()
        self.pipeline.offer(camera, image, header, now - int(age * 1e9), now)

    def ask(self, task: Task = QUESTION, deadline: float = PATIENCE, camera: str = "front") -> None:
        self.pipeline.ask(camera, task, deadline, self.answers.put)

    def report(self) -> Report:
        return self.reports.get(timeout=PATIENCE)

    def answer(self) -> Report:
        return self.answers.get(timeout=PATIENCE)


@pytest.fixture
def asked() -> Iterator[Callable[..., Asked]]:
    with contextlib.ExitStack() as stack:

        def make(**cameras: Camera) -> Asked:
            made = Asked(cameras or {"front": STREAM})
            stack.callback(made.pipeline.stop)
            made.pipeline.start()
            made.ready()
            return made

        yield make


def test_a_question_uses_the_newest_image_and_does_not_affect_the_stream(asked: Callable[..., Asked]) -> None:
    it = asked(front=Camera(STREAM.policy, STREAM.task, Region(20, 10, 40, 20)))
    it.offer(40, "older")
    it.offer(80, "newest", age=1.5)
    streamed = {it.report().header, it.report().header}
    it.ask()
    answer = it.answer()
    assert (answer.camera, answer.header, answer.outcome) == ("front", "newest", Outcome.PUBLISHED)
    assert answer.task == QUESTION
    assert answer.answer is not None
    assert answer.answer.text == "80 ball"
    assert answer.answer.detections[0].x_min == 20
    assert (answer.width, answer.height) == (64, 48)
    assert answer.age > 1.5
    assert answer.age > answer.times.total > answer.times.prepare > 0
    assert streamed == {"older", "newest"}
    assert it.reports.empty()
    assert sum(it.pipeline.counts()["front"].values()) == 2


@pytest.mark.slow
def test_the_stream_continues_between_questions(asked: Callable[..., Asked]) -> None:
    it = asked(front=Camera(CameraPolicy(deadline=30.0), STREAM.task))
    it.offer()
    it.report()
    for _ in QUESTIONS:  # all that are taken, one after the other busy for a while
        it.ask(Task("ask", prompt="brief"))
    it.offer(header="stream")
    assert it.report().outcome is Outcome.PUBLISHED
    assert it.answers.qsize() < len(QUESTIONS), "its deadline is the earlier one"
    assert {it.answer().outcome for _ in QUESTIONS} == {Outcome.PUBLISHED}


def test_a_question_does_not_change_the_streams_predictions(
    asked: Callable[..., Asked],
) -> None:
    it = asked()
    it.offer()
    it.report()
    predict = it.pipeline.scheduler.latency.predict
    before = predict("run", 0)
    it.ask(Task("caption", prompt="brief"))
    it.answer()
    assert predict("caption", 0) > 0.05
    assert predict("run", 0) == before
    with pytest.raises(AskError, match=r"camera front: deadline 0.010 s is shorter .* works is 0\.\d+ s"):
        it.ask(Task("caption"), deadline=0.01)


def test_questions_without_an_answer_are_refused_with_a_reason(
    asked: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = asked()
    with pytest.raises(AskError, match="there is no camera 'rear'; there is front"):
        it.ask(camera="rear")
    with pytest.raises(AskError, match="no image of camera front has arrived"):
        it.ask()
    it.offer()
    for wrong in (-1.0, float("nan")):
        with pytest.raises(AskError, match="deadline is"):
            it.ask(deadline=wrong)
    it.ask(Task("ask", prompt="refuse"))
    assert (refused := it.answer()).outcome is Outcome.ENGINE_DOWN
    assert refused.reason == "this task is refused"
    with monkeypatch.context() as patch:
        patch.setattr(module, "SILENCE", 0.0)
        with pytest.raises(AskError, match=r"the newest image of camera front came \d+\.\d s ago"):
            it.ask()
    it.pipeline.clear("the node was deactivated")
    with pytest.raises(AskError, match="no image of camera front has arrived"):
        it.ask()


@pytest.mark.slow
def test_a_question_is_reported_at_its_deadline_while_the_engine_still_runs_it(
    asked: Callable[..., Asked],
) -> None:
    it = asked()
    it.offer()
    it.report()
    it.ask(Task("ask", prompt="sleep"), deadline=1.0)  # time enough to get it to the engine
    assert it.lines.get(timeout=PATIENCE) == "asleep"
    told = it.answer()
    assert (told.outcome, told.answer) == (Outcome.WITHHELD, None)
    assert told.reason == "its deadline passed while the engine ran it"
    assert (told.camera, told.header) == ("front", "image")
    it.pipeline.stop()
    assert it.answers.empty(), "told once"


@pytest.mark.slow
def test_questions_are_limited_and_all_end_with_the_pipeline(asked: Callable[..., Asked]) -> None:
    it = asked()
    it.offer()
    it.report()
    it.ask(Task("ask", prompt="sleep"))
    assert it.lines.get(timeout=PATIENCE) == "asleep"
    it.ask(deadline=0.05)
    assert it.answer().reason == "its deadline passed while it waited"
    for _ in QUESTIONS[1:]:
        it.ask()
    with pytest.raises(AskError, match="4 questions are being answered already"):
        it.ask()
    it.pipeline.stop()
    assert {it.answer().outcome for _ in QUESTIONS} == {Outcome.ENGINE_DOWN}
    it.ask()
    assert "stopped" in it.answer().reason
