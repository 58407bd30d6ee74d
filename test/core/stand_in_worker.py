"""A process that speaks the engine's protocol without a model: it misbehaves on demand.

The checkpoint's name says how it loads, a request's prompt what becomes of it. An answer's text is the
mean of the tiles it was given.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection

from argus_ros.core.protocol import Answered, Arena, Failed, FrameRequest, ModelInfo, Progress, Ready, Run
from argus_ros.core.types import Answer, Detection, Status

INFO = ModelInfo("stand-in", "cpu", "float32", ("detect",), ("cone",), 32, 5, 4, 0)


def answer(arena: Arena, request: FrameRequest, together: int) -> Answered:
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
            return Answered(request.id, error="this task is refused")
    box = Detection("cone", 0.9, 0.0, 0.0, request.width / 2, request.height / 4)
    classes = ",".join(request.task.classes)
    return Answered(request.id, Answer((box,), f"{tiles.mean():.0f} {classes}".strip(), visual_tokens=4))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connection", type=int)
    parser.add_argument("--arena", type=int)
    given = parser.parse_args()
    connection = Connection(given.connection)
    config = connection.recv()
    connection.send(Progress("loading"))
    match config.checkpoint:
        case "missing":
            connection.send(Failed("no checkpoint 'missing'; give a folder"))
            return
        case "dies":
            print("ModuleNotFoundError: no torch here", file=sys.stderr)
            sys.exit(3)
        case "never":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            connection.send(Progress("deaf"))
            threading.Event().wait()
    arena = Arena(given.arena, config.slots, INFO.slot_bytes)
    info = INFO
    if config.checkpoint == "batches":
        info = replace(INFO, recipes=("camera_batch",))
    if config.checkpoint == "takes half a second":
        info = replace(INFO, frame_seconds=0.5)
    connection.send(Ready(info))
    while isinstance(message := connection.recv(), Run):
        for request in message.requests:
            connection.send(answer(arena, request, len(message.requests)))


if __name__ == "__main__":
    main()
