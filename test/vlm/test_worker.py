"""The worker as a process of its own, spoken to over a real pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from argus_ros.core.protocol import (
    Answered,
    Arena,
    Channel,
    EngineConfig,
    Failed,
    FrameRequest,
    ModelInfo,
    Progress,
    Ready,
    Run,
    Shutdown,
    Start,
    ToClient,
)
from argus_ros.core.types import Task

pytestmark = pytest.mark.slow  # engines start and end

PATIENCE = 60  # seconds for what takes about two; a test that hangs should end all the same


class Worker:
    """A started worker, our end of its pipe and its arena."""

    def __init__(self, config: object) -> None:
        ours, theirs = Channel.pair()
        self.connection = Channel(ours, ToClient)
        self.arena_fd = Arena.create_file()
        fds = theirs.fileno(), self.arena_fd
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "argus_ros.vlm.worker",
                "--connection",
                str(fds[0]),
                "--arena",
                str(fds[1]),
            ],
            pass_fds=fds,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        theirs.close()
        self.connection.send(config)
        ours.settimeout(PATIENCE)

    def receive(self) -> object:
        """The next message that is no Progress."""
        while True:
            message = self.connection.receive(wait=True)
            if not isinstance(message, Progress):
                return message

    def ready(self) -> ModelInfo:
        message = self.receive()
        assert isinstance(message, Ready), message
        return message.info

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()
        os.close(self.arena_fd)


@pytest.fixture
def worker(tiny: Path) -> Iterator[Worker]:
    worker = Worker(Start(EngineConfig(str(tiny), device="cpu", threads=1)))
    yield worker
    worker.close()


DETECT = Task("detect")


def request(number: int, task: Task = DETECT, slot: int = 0, max_new_tokens: int = 0) -> FrameRequest:
    return FrameRequest(number, slot, 0, 0, 640, 480, task, max_new_tokens=max_new_tokens)


def test_answers_and_errors_of_one_batch(worker: Worker) -> None:
    info = worker.ready()
    arena = Arena(worker.arena_fd, 4, info.slot_bytes)
    arena.buffer()[:] = np.random.default_rng(0).integers(0, 256, arena.buffer().shape, np.uint8)
    unknown = request(2, task=Task("detect", ("unicorn",)))
    worker.connection.send(Run((request(1), unknown, request(3, slot=99), request(4, slot=1))))
    answered = {m.id: m for m in (worker.receive() for _ in range(4)) if isinstance(m, Answered)}
    assert set(answered) == {1, 2, 3, 4}
    assert "'unicorn'" in answered[2].error
    assert "cone, ball, box" in answered[2].error
    assert answered[3].error
    for number in (1, 4):
        assert not answered[number].error
        assert answered[number].answer.generated_tokens
    worker.connection.send(Shutdown())
    assert worker.process.wait(PATIENCE) == 0


def test_interrupt_is_the_parents_business_and_terminate_ends_at_once(worker: Worker) -> None:
    worker.ready()
    worker.process.send_signal(signal.SIGINT)
    worker.connection.send(Run((request(1),)))
    assert isinstance(worker.receive(), Answered)
    worker.process.terminate()
    assert worker.process.wait(PATIENCE) == -signal.SIGTERM


def test_dies_with_its_parent_in_the_middle_of_an_inference(worker: Worker) -> None:
    worker.ready()
    worker.connection.send(Run((request(1),)))
    # More work than the patience of this test allows; it begins as soon as the first is answered.
    worker.connection.send(Run((request(2, task=Task("ask", prompt="what"), max_new_tokens=1000),) * 500))
    assert isinstance(worker.receive(), Answered)
    worker.connection.close()
    assert worker.process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (EngineConfig("no-such-model"), "no checkpoint 'no-such-model'"),
        (EngineConfig("{tiny}", preset="ludicrous"), "realtime"),
        (Run(()), "must be Start"),
    ],
)
def test_a_failed_start_has_a_reason(tiny: Path, config: object, reason: str) -> None:
    if isinstance(config, EngineConfig):
        config = Start(replace(config, checkpoint=config.checkpoint.format(tiny=tiny)))
    worker = Worker(config)
    try:
        message = worker.receive()
        assert isinstance(message, Failed)
        assert reason in message.reason
        assert worker.process.wait(PATIENCE) == 0
    finally:
        worker.close()
