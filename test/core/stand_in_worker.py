"""A process that speaks the engine's protocol without a model: it misbehaves on demand.

The checkpoint's name says how it loads, a request's prompt what becomes of it. An answer's text is the
mean of the tiles it was given.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import pickle
import signal
import socket
import sys
import threading
import time
from dataclasses import replace

from argus_ros.core.protocol import (
    MAX_MESSAGE,
    Answered,
    Arena,
    Channel,
    Failed,
    FrameRequest,
    ModelInfo,
    Progress,
    Ready,
    Run,
    Start,
    ToWorker,
)
from argus_ros.core.types import Answer, Detection, Status

INFO = ModelInfo("stand-in", "cpu", "float32", ("detect",), ("cone",), 32, 5, 4, 0)


def answer(connection: socket.socket, arena: Arena, request: FrameRequest, together: int) -> Answered:
    tiles = arena.pixels(request, INFO.tile)
    match request.task.prompt:
        case "crash":
            print("about to crash", file=sys.stderr)
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            print("asleep", flush=True)
            time.sleep(1000)
        case "brief":
            time.sleep(0.05)
        case "budget":
            said = f"{request.tiles} tiles, {request.max_detections} objects"
            return Answered(request.id, Answer(text=said))
        case "cut":
            assert request.deadline is not None
            assert request.taken is not None
            seconds = request.deadline - request.taken
            return Answered(request.id, Answer(text=f"{seconds:.3f}", status=Status.TRUNCATED))
        case "batch":
            return Answered(request.id, Answer(text=str(together)))
        case "refuse":
            return Answered(request.id, error="this task is refused", refused=True)
        case "fail":
            return Answered(request.id, error="RuntimeError: no memory for it")
        case "NaN":
            return Answered(request.id, Answer((Detection("cone", math.nan, 0.0, 0.0, 1.0, 1.0),)))
        case "stranger":
            return Answered(request.id + 1000)
        case "garbage":
            connection.send(bytes(100))
        case "too long":
            connection.send(bytes(MAX_MESSAGE + 1))
        case "empty":
            connection.send(b"")
        case "pickle":
            connection.send(pickle.dumps(Answer()))
    box = Detection("cone", 0.9, 0.0, 0.0, request.width / 2, request.height / 4)
    classes = ",".join(request.task.classes)
    return Answered(request.id, Answer((box,), f"{tiles.mean():.0f} {classes}".strip(), visual_tokens=4))


def main() -> None:
    with contextlib.suppress(EOFError):  # the client is gone
        serve()


def serve() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connection", type=int)
    parser.add_argument("--arena", type=int)
    given = parser.parse_args()
    connection = socket.socket(fileno=given.connection)
    channel = Channel(connection, ToWorker)
    start = channel.receive(wait=True)
    assert isinstance(start, Start)
    config = start.config
    channel.send(Progress("loading"))
    match config.checkpoint:
        case "missing":
            channel.send(Failed("no checkpoint 'missing'; give a folder"))
            return
        case "no memory at first":
            if not os.path.exists(tried := f"/dev/shm/argus-stand-in-{os.getppid()}"):
                open(tried, "w").close()
                channel.send(Failed("out of memory while loading", transient=True))
                return
            os.unlink(tried)
        case "dies":
            print("ModuleNotFoundError: no torch here", file=sys.stderr)
            sys.exit(3)
        case "never":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            channel.send(Progress("deaf"))
            threading.Event().wait()
    arena = Arena(given.arena, config.slots, INFO.slot_bytes)
    info = INFO
    if config.checkpoint == "batches":
        info = replace(INFO, recipes=("camera_batch",))
    if config.checkpoint == "takes half a second":
        info = replace(INFO, frame_seconds=0.5)
    channel.send(Ready(info))
    while isinstance(message := channel.receive(wait=True), Run):
        for request in message.requests:
            channel.send(answer(connection, arena, request, len(message.requests)), wait=True)


if __name__ == "__main__":
    main()
