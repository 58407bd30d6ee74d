"""The engine's process: ``python -m argus_ros.vlm.worker --connection FD --arena FD``.

Both descriptors are inherited. The first message on the connection is ``Start``. Then the worker loads, sends
``Ready`` (or ``Failed``), and answers each ``Run``. It ends on ``Shutdown``, on SIGTERM, and when the other
end of the connection is closed, also in the middle of an inference. It ends with its parent, even while
stopped.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import queue
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import argus_ros.core.process  # noqa: F401  before what loads numpy
from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import hub
from argus_ros.core.protocol import (
    Answered,
    Arena,
    Channel,
    EngineConfig,
    Failed,
    FrameRequest,
    Progress,
    ProtocolError,
    Ready,
    Run,
    Shutdown,
    Start,
    ToWorker,
    why_unusable,
)
from argus_ros.core.resources import engine_threads
from argus_ros.vlm.formats.prompts import TaskError

if TYPE_CHECKING:
    from argus_ros.vlm.engine.engines import Served

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>: the kernel sends this signal when the parent ends


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The engine's process; started by the node.")
    parser.add_argument("--connection", type=int, required=True, help="the descriptor of the socket")
    parser.add_argument("--arena", type=int, required=True, help="descriptor of the shared memory")
    given = parser.parse_args(arguments)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also ends a stopped process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    channel = Channel(socket.socket(fileno=given.connection), ToWorker)
    messages: queue.SimpleQueue[object] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, messages), daemon=True).start()
    try:
        _serve(channel, messages, given.arena)
    except BrokenPipeError:  # the parent ended during a write
        _leave()


def _listen(channel: Channel, messages: queue.SimpleQueue[object]) -> None:
    """Pass messages on; end this process at once when the parent is gone."""
    while True:
        try:
            messages.put(channel.receive(wait=True))
        except (EOFError, OSError, ProtocolError):
            _leave()


def _leave() -> None:
    os._exit(0)


def _serve(channel: Channel, messages: queue.SimpleQueue[object], arena_fd: int) -> None:
    start = messages.get()
    if not isinstance(start, Start):
        channel.send(Failed(f"the first message must be Start, not {type(start).__name__}"), wait=True)
        return
    try:
        engine, arena = _load(start.config, channel, arena_fd)
    except Exception as error:  # report any failure to the parent
        reason, transient = _reason(error, start.config)
        channel.send(Failed(reason, transient), wait=True)
        return
    channel.send(Ready(engine.info), wait=True)
    while not isinstance(message := messages.get(), Shutdown):
        if isinstance(message, Run):
            for answered in run(engine, arena, message.requests):
                channel.send(answered, wait=True)


def _load(config: EngineConfig, channel: Channel, arena_fd: int) -> tuple[Served, Arena]:
    channel.send(Progress(f"looking up {config.checkpoint}"), wait=True)
    hub.allow(config, weights=True)
    checkpoints.read_for(config)  # report a wrong name before importing torch, which takes seconds
    channel.send(Progress("importing torch"), wait=True)
    from argus_ros.vlm.engine import engines

    channel.send(Progress(f"loading {config.checkpoint}"), wait=True)
    engine = engines.load(replace(config, threads=engine_threads(config.threads)))
    channel.send(Progress("warming up"), wait=True)
    engine.warm_up()
    arena = Arena(arena_fd, config.slots, engine.info.slot_bytes)
    engine.pin(arena.buffer())
    return engine, arena


def _reason(error: Exception, config: EngineConfig) -> tuple[str, bool]:
    """Why loading failed, and whether the failure is temporary."""
    if isinstance(error, ValueError):  # CheckpointError, EngineError and TaskError say what to do
        return str(error), False
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return (
            f"out of memory while loading {config.checkpoint} on {config.device} as {config.dtype}: "
            "use a smaller checkpoint or dtype bfloat16, or free the device"
        ), True
    return f"cannot load {config.checkpoint}: {type(error).__name__}: {error}", isinstance(error, OSError)


def run(engine: Served, arena: Arena, requests: Sequence[FrameRequest]) -> Iterator[Answered]:
    """Answer each request once it is done. One that cannot be run gets an error, and the others run."""
    good: dict[int, FrameRequest] = {}
    pixels = []
    for request in requests:
        try:
            picture = arena.pixels(request, engine.info.tile)
            engine.check(request, picture)
        except ValueError as error:
            yield Answered(request.id, error=str(error), refused=True)
        else:
            good[request.id] = request
            pixels.append(picture)
    batch = list(good.values())
    try:
        for index, answer in engine.stream(batch, pixels):
            request = good.pop(batch[index].id)
            if isinstance(answer, Exception):
                yield _unanswered(request.id, answer)
                continue
            why = why_unusable(answer, request.width, request.height)
            yield Answered(request.id, error=why) if why else Answered(request.id, answer)
    except Exception as error:  # the engine stays usable
        yield from (_unanswered(id, error) for id in good)


def _unanswered(id: int, error: Exception) -> Answered:
    if isinstance(error, TaskError):  # found only during the run, for example a prompt that is too long
        return Answered(id, error=str(error), refused=True)
    return Answered(id, error=f"{type(error).__name__}: {error}")  # the parent counts and reports it


if __name__ == "__main__":
    main()
