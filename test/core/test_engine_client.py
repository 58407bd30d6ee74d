"""The engine's process, killed, stopped and misconfigured in every way that a robot will find."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import has_ended

from argus_ros.core import engine_client
from argus_ros.core.engine_client import EngineClient, EngineDownError, EngineState
from argus_ros.core.protocol import Answered, EngineConfig, FrameRequest
from argus_ros.core.types import Task

pytestmark = pytest.mark.slow  # engines start and end

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in_worker.py")))
PATIENCE = 60.0


class Watched:
    """A client with what it said, to be waited for."""

    def __init__(self, checkpoint: str = "good", **options: Any) -> None:
        options = {"command": STAND_IN, **options}
        self.answers: queue.Queue[Answered] = queue.Queue()
        self.events: queue.Queue[tuple[EngineState, str]] = queue.Queue()
        self.lines: queue.Queue[str] = queue.Queue()
        self.client = EngineClient(
            EngineConfig(checkpoint, device="cpu", threads=1),
            on_answer=self.answers.put,
            on_event=self._take,
            on_log=self.lines.put,
            **options,
        )

    def _take(self, state: EngineState, text: str) -> None:
        self.events.put((state, text))

    def until(self, state: EngineState) -> str:
        """Wait for a state; its sentence."""
        while True:
            found, text = self.events.get(timeout=PATIENCE)
            if found is state:
                return text

    def submit(self, id: int, prompt: str = "", slot: int | None = None, **options: Any) -> int:
        if slot is None:
            slot = self.client.acquire()
            assert slot is not None
        task = Task("detect", ("cone",), prompt)
        self.client.submit([FrameRequest(id, slot, 0, 0, 64, 64, task)], **options)
        return slot

    def answer(self) -> Answered:
        return self.answers.get(timeout=PATIENCE)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    with contextlib.ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> Watched:
            watched = Watched(*arguments, **options)
            stack.callback(watched.client.stop)
            watched.client.start()
            return watched

        yield make


def test_frames_in_shared_memory_are_answered(watch: Callable[..., Watched]) -> None:
    watched = watch()
    client = watched.client
    assert client.wait_ready(PATIENCE).name == "stand-in"
    slots = [client.acquire() for _ in range(4)]
    assert sorted(slots) == [0, 1, 2, 3]  # type: ignore[type-var]
    assert client.acquire() is None
    for slot in slots:
        assert slot is not None
        client.slot(slot)[:] = 10 * slot
    for slot in slots:
        assert slot is not None
        watched.submit(100 + slot, slot=slot)
        found = watched.answer()
        assert (found.id, found.answer.text, found.error) == (100 + slot, f"{10 * slot} cone", "")
        client.release(slot)
    assert client.acquire() is not None
    states = [watched.events.get_nowait()[0] for _ in range(watched.events.qsize())]
    assert states == [EngineState.STARTING, EngineState.STARTING, EngineState.RUNNING]


def test_a_batch_is_answered_one_by_one(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.client.wait_ready(PATIENCE)
    task = Task("detect")
    watched.client.submit([FrameRequest(i, i, 0, 0, 64, 64, task) for i in range(3)])
    assert [watched.answer().id for _ in range(3)] == [0, 1, 2]


def test_an_error_on_one_frame_leaves_the_engine_running(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.client.wait_ready(PATIENCE)
    slot = watched.submit(1, "refuse")
    assert watched.answer().error == "this task is refused"
    watched.submit(2, slot=slot)
    assert not watched.answer().error
    assert watched.client.restarts == 0
    assert watched.client.failures == 0


@pytest.mark.parametrize("prompt", ["garbage", "pickle", "too long", "empty", "NaN", "stranger"])
def test_an_engine_with_invalid_messages_is_replaced(watch: Callable[..., Watched], prompt: str) -> None:
    watched = watch()
    watched.client.wait_ready(PATIENCE)
    slot = watched.submit(1, prompt)
    reason = watched.answer().error
    assert "broke the protocol" in reason or (prompt == "empty" and "closed its connection" in reason)
    watched.until(EngineState.RECOVERING)
    watched.until(EngineState.RUNNING)
    watched.submit(2, slot=slot)
    assert not watched.answer().error


def test_the_shared_memory_cannot_be_truncated(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.client.wait_ready(PATIENCE)
    mapped = [fd for fd in Path("/proc/self/fd").iterdir() if "memfd:argus_ros" in str(fd.resolve())]
    for fd in mapped:
        with pytest.raises(PermissionError):
            os.truncate(fd, 0)
    assert mapped
    watched.client.slot(0)[:] = 1


def test_failing_inferences_degrade_it_and_replace_the_process(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.client.wait_ready(PATIENCE)
    first = watched.client.pid
    slot = watched.submit(1, "fail")
    assert watched.until(EngineState.DEGRADED) == "RuntimeError: no memory for it"
    watched.submit(2, slot=slot)
    watched.until(EngineState.RUNNING)  # one that works forgives those before
    for id in range(3, 6):
        watched.submit(id, "fail", slot=slot)
    assert [bool(watched.answer().error) for _ in range(5)] == [True, False, True, True, True]
    text = watched.until(EngineState.RECOVERING)
    assert text == "3 inferences in a row failed: RuntimeError: no memory for it"
    watched.until(EngineState.RUNNING)
    assert watched.client.pid != first


def test_a_lack_of_memory_while_loading_is_temporary(watch: Callable[..., Watched]) -> None:
    watched = watch("no memory at first")
    assert watched.until(EngineState.RECOVERING) == "out of memory while loading"
    assert watched.client.wait_ready(PATIENCE)


@pytest.mark.parametrize("room", [0, 2, 4, 6])
def test_a_lack_of_descriptors_is_temporary(watch: Callable[..., Watched], room: int) -> None:
    """Whichever it is that cannot be had; nothing stays behind of a try that failed."""
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    watched = Watched()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(room):
            os.close(taken.pop())
        watched.client.start()
        assert "Too many open files" in watched.until(EngineState.RECOVERING)
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert watched.client.wait_ready(PATIENCE)
    watched.client.stop()
    del watched
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_spare_process_takes_over(watch: Callable[..., Watched]) -> None:
    watched = watch(spare=True)
    client = watched.client
    client.wait_ready(PATIENCE)

    def spare_of(pid: int | None) -> int:
        while client.spare != "ready" or (spare := client.spare_pid) is None:
            time.sleep(0.01)
        assert spare != pid
        return spare

    slot = watched.submit(1)
    assert not watched.answer().error
    for round in range(2):
        spare = spare_of(client.pid)
        assert client.pid
        os.kill(client.pid, signal.SIGKILL)
        watched.until(EngineState.RECOVERING)
        while (state := watched.events.get(timeout=PATIENCE))[0] is not EngineState.RUNNING:
            assert state[1] == "starting the engine's process", "it does not load"
        assert client.pid == spare
        watched.submit(10 + round, slot=slot)
        assert not watched.answer().error
    spare = spare_of(client.pid)
    os.kill(spare, signal.SIGKILL)
    assert "the spare process was lost" in watched.lines.get(timeout=PATIENCE)
    watched.submit(20, slot=slot)
    assert not watched.answer().error
    assert client.restarts == 2
    client.stop()
    assert client.spare == "none"


def test_a_spare_process_is_started_under_continuous_load(watch: Callable[..., Watched]) -> None:
    watched = watch(spare=True)
    client = watched.client
    client.wait_ready(PATIENCE)
    slot, number, end = watched.submit(0), 0, time.monotonic() + PATIENCE
    while client.spare != "ready" and time.monotonic() < end:
        assert not watched.answer().error
        watched.submit(number := number + 1, slot=slot)
    assert client.spare == "ready"


def test_a_killed_engine_is_noticed_and_started_again(watch: Callable[..., Watched]) -> None:
    watched = watch()
    client = watched.client
    client.wait_ready(PATIENCE)
    held = client.acquire()
    assert held is not None
    client.slot(held)[:] = 77
    watched.submit(1, "sleep")
    assert watched.lines.get(timeout=PATIENCE) == "asleep"
    first = client.pid
    assert first
    os.kill(first, signal.SIGKILL)
    text = watched.until(EngineState.RECOVERING)
    assert "SIGKILL" in text
    assert watched.answer() == Answered(1, error=text)
    with pytest.raises(EngineDownError):
        watched.submit(2, slot=held)
    watched.until(EngineState.RUNNING)
    assert client.restarts == 1
    assert client.last_error == text
    assert client.pid not in (None, first)
    watched.submit(3, slot=held)  # a frame that was prepared before is still there
    assert watched.answer().answer.text == "77 cone"


def test_the_reason_has_the_last_log_line_of_a_crashed_engine(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.client.wait_ready(PATIENCE)
    watched.submit(1, "crash")
    assert watched.answer().error.endswith("about to crash")


def test_a_stopped_engine_counts_as_hung(watch: Callable[..., Watched]) -> None:
    watched = watch(hang_seconds=0.5)
    client = watched.client
    client.wait_ready(PATIENCE)
    first = client.pid
    slot = watched.submit(1, "stop")
    text = watched.until(EngineState.RECOVERING)
    assert "hung: no answer within 0.5 s" in text
    assert watched.answer().error == text
    assert first
    assert has_ended(first)
    watched.until(EngineState.RUNNING)
    watched.submit(2, slot=slot)
    assert not watched.answer().error


def test_the_hang_timeout_can_be_set_per_frame(watch: Callable[..., Watched]) -> None:
    watched = watch(hang_seconds=1000.0)
    watched.client.wait_ready(PATIENCE)
    watched.submit(1, "sleep", hang_seconds=0.2)
    assert "hung" in watched.answer().error


def test_frames_queued_behind_others_are_not_overdue(watch: Callable[..., Watched]) -> None:
    watched = watch(hang_seconds=1.0)
    watched.client.wait_ready(PATIENCE)
    brief = Task("detect", prompt="brief")
    watched.client.submit([FrameRequest(i, 0, 0, 0, 64, 64, brief) for i in range(40)])
    assert not any(watched.answer().error for _ in range(40))


def test_a_bad_configuration_is_final(watch: Callable[..., Watched]) -> None:
    watched = watch("missing")
    with pytest.raises(EngineDownError, match="no checkpoint 'missing'; give a folder"):
        watched.client.wait_ready(PATIENCE)
    watched.client.stop()
    assert watched.client.restarts == 0
    assert watched.client.pid is None


def test_an_engine_that_cannot_be_started_at_all(watch: Callable[..., Watched]) -> None:
    watched = watch(command=("/nowhere/python",))
    with pytest.raises(EngineDownError, match=r"cannot be started.*/nowhere/python"):
        watched.client.wait_ready(PATIENCE)


def test_an_engine_that_crashes_while_loading_is_restarted_with_growing_delays(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [engine_client.delay_after(n) for n in range(4)] == [0.25, 0.5, 1.0, 2.0]
    assert engine_client.delay_after(1000) == 10.0
    failures: list[int] = []

    def at_once(failed: int) -> float:
        failures.append(failed)
        return 0.0

    monkeypatch.setattr(engine_client, "delay_after", at_once)
    watched = watch("dies")
    said = False
    while len(failures) < 3 or not said:
        text = watched.until(EngineState.RECOVERING)
        said |= "exit status 3" in text and "no torch here" in text
    watched.client.stop()
    assert failures[:3] == [1, 2, 3]
    assert watched.client.state is EngineState.STOPPED


def test_an_engine_that_never_loads_counts_as_hung(watch: Callable[..., Watched]) -> None:
    watched = watch("never", load_seconds=0.5)
    text = watched.until(EngineState.RECOVERING)
    assert "while loading" in text


@pytest.mark.parametrize("doing", ["idle", "sleep", "stop"])
def test_stop_does_not_wait_for_the_engines_work(watch: Callable[..., Watched], doing: str) -> None:
    watched = watch()
    watched.client.wait_ready(PATIENCE)
    pid = watched.client.pid
    assert pid
    if doing != "idle":
        watched.submit(1, doing)
    if doing == "sleep":
        watched.lines.get(timeout=PATIENCE)
    watched.client.stop(timeout=2.0)
    assert has_ended(pid)
    assert watched.client.state is EngineState.STOPPED
    if doing != "idle":
        assert watched.answer().error
    with pytest.raises(EngineDownError, match="stopped"):
        watched.client.submit([FrameRequest(9, 0, 0, 0, 64, 64, Task())])


def test_stop_while_the_engine_loads_and_ignores_sigterm(watch: Callable[..., Watched]) -> None:
    watched = watch("never")
    while watched.events.get(timeout=PATIENCE)[1] != "deaf":
        pass
    watched.client.stop(timeout=2.0)


def test_a_failing_callback_does_not_end_the_supervision() -> None:
    def fail(answer: Answered) -> None:
        raise ValueError("a mistake of the caller's")

    watched = Watched()
    watched.client.on_answer = fail
    watched.client.start()
    watched.client.wait_ready(PATIENCE)
    slot = watched.submit(1)
    watched.client.on_answer = watched.answers.put
    watched.submit(2, slot=slot)
    assert watched.answer().id in (1, 2)
    watched.client.stop()


# --- the real one ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_engine_answers_is_killed_and_answers_again(
    watch: Callable[..., Watched], checkpoint: Path
) -> None:
    watched = watch(str(checkpoint), command=(sys.executable, "-m", "argus_ros.vlm.worker"))
    client = watched.client
    info = client.wait_ready(PATIENCE)
    assert info.classes == ("cone", "ball", "box")
    slot = client.acquire()
    assert slot is not None
    client.slot(slot)[:] = 90
    watched.submit(1, slot=slot)
    before = watched.answer()
    assert not before.error
    assert before.answer.visual_tokens > 0

    assert client.pid
    os.kill(client.pid, signal.SIGSTOP)
    watched.submit(2, slot=slot)
    os.kill(client.pid, signal.SIGKILL)  # in the middle of a frame
    assert "SIGKILL" in watched.answer().error
    watched.until(EngineState.RUNNING)  # the first start's
    watched.until(EngineState.RUNNING)
    watched.submit(3, slot=slot)
    assert watched.answer().answer.detections == before.answer.detections


@pytest.mark.slow
def test_the_real_engine_refuses_a_folder_that_is_no_checkpoint(
    watch: Callable[..., Watched], tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="the engine needs torch and transformers")
    watched = watch(str(tmp_path), command=(sys.executable, "-m", "argus_ros.vlm.worker"))
    with pytest.raises(EngineDownError, match=r"no checkpoint .* nor a folder with a config\.json"):
        watched.client.wait_ready(PATIENCE)
    assert watched.client.state is EngineState.FAILED
