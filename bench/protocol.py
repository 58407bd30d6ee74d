"""Measures a request and its answer between two processes: this package's protocol, and pickles over a pipe.

    .venv/bin/ros-env python bench/protocol.py

Both alternate: a request for a frame goes to another process, which answers with eight detections. This
package's answers are checked, too. The figures are microseconds of the whole round trip.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

from argus_ros.core.protocol import Answered, Channel, FrameRequest, Run, ToClient, ToWorker, why_unusable
from argus_ros.core.types import Answer, Detection, StageTimes, Status, Task

ROUNDS, WARM_UP = 5000, 500
REQUEST = FrameRequest(1, 0, 0, 0, 640, 480, Task("detect", ("cone", "ball")), "front", 8, 0, 1.0, 2.0)
ANSWER = Answer(
    tuple(Detection("person", 0.9, 1.0, 2.0, 30.0, 40.0) for _ in range(8)),
    "",
    Status.OK,
    StageTimes(*(0.1 * stage for stage in range(9))),
    64,
    40,
    12,
    3,
    2,
)


def answer_pickles(pipe: Connection) -> None:
    while True:
        pipe.recv()
        pipe.send((1, ANSWER, ""))


def answer_messages(end: socket.socket) -> None:
    channel = Channel(end, ToWorker)
    while isinstance(run := channel.receive(wait=True), Run):
        channel.send(Answered(run.requests[0].id, ANSWER), wait=True)


def other_process(work: Callable[[], None]) -> int:
    if child := os.fork():
        return child
    try:
        work()
    finally:
        os._exit(0)


def main() -> None:
    pipe, far_pipe = multiprocessing.Pipe()
    end, far_end = Channel.pair()
    children = [
        other_process(lambda: answer_pickles(far_pipe)),
        other_process(lambda: answer_messages(far_end)),
    ]
    channel = Channel(end, ToClient)

    def pickles() -> None:
        pipe.send((REQUEST,))
        wait([pipe])
        pipe.recv()

    def messages() -> None:
        channel.send(Run((REQUEST,)))
        wait([channel.fileno()])
        answered = channel.receive()
        assert isinstance(answered, Answered)
        assert not why_unusable(answered.answer, REQUEST.width, REQUEST.height)

    taken: dict[str, list[float]] = {"pickles": [], "messages": []}
    for _ in range(ROUNDS):
        for name, once in (("pickles", pickles), ("messages", messages)):
            began = time.perf_counter()
            once()
            taken[name].append((time.perf_counter() - began) * 1e6)
    for name, values in taken.items():
        cuts = statistics.quantiles(values[WARM_UP:], n=20)
        print(f"{name}: median {cuts[9]:.0f} us, 95th percentile {cuts[18]:.0f} us")
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
