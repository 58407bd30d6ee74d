"""The engine's process: ``python -m argus_ros.vlm.worker --connection FD --arena FD``.

Both descriptors are inherited. The first message on the connection is the ``EngineConfig``; then the worker
loads, says ``Ready`` (or ``Failed``), and answers each ``Run``. It ends on ``Shutdown``, on SIGTERM, and as
soon as the other end of the connection is closed, also in the middle of an inference.
"""

from __future__ import annotations

import os

# numpy multiplies one row at a time here, which further threads of its own would only spin beside.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.protocol import (
    Answered,
    Arena,
    EngineConfig,
    Failed,
    FrameRequest,
    Progress,
    Ready,
    Run,
    Shutdown,
)

if TYPE_CHECKING:
    from argus_ros.vlm.engine import Engine


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The engine's process; started by the node.")
    parser.add_argument("--connection", type=int, required=True, help="descriptor of the pipe to the parent")
    parser.add_argument("--arena", type=int, required=True, help="descriptor of the shared memory")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    connection = Connection(given.connection)
    messages: queue.SimpleQueue[object] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, messages), daemon=True).start()
    try:
        _serve(connection, messages, given.arena)
    except BrokenPipeError:  # the parent died while it was being written to
        _leave()


def _listen(connection: Connection, messages: queue.SimpleQueue[object]) -> None:
    """Pass messages on; when the parent is gone, so is this process, whatever it is doing."""
    while True:
        try:
            messages.put(connection.recv())
        except (EOFError, OSError):
            _leave()


def _leave() -> None:
    os._exit(0)


def _serve(connection: Connection, messages: queue.SimpleQueue[object], arena_fd: int) -> None:
    config = messages.get()
    if not isinstance(config, EngineConfig):
        connection.send(Failed(f"the first message must be an EngineConfig, not {type(config).__name__}"))
        return
    try:
        engine, arena = _load(config, connection, arena_fd)
    except Exception as error:  # whatever stops loading is the parent's to know
        connection.send(Failed(_reason(error, config)))
        return
    connection.send(Ready(engine.info))
    while not isinstance(message := messages.get(), Shutdown):
        if isinstance(message, Run):
            for answered in _run(engine, arena, message.requests):
                connection.send(answered)


def _load(config: EngineConfig, connection: Connection, arena_fd: int) -> tuple[Engine, Arena]:
    checkpoints.read(config.checkpoint)  # a wrong name is worth knowing before torch is imported
    connection.send(Progress("importing torch"))
    from argus_ros.vlm.engine import Engine

    connection.send(Progress(f"loading {config.checkpoint}"))
    engine = Engine(replace(config, threads=config.threads or _threads()))
    connection.send(Progress("warming up"))
    engine.warm_up()
    arena = Arena(arena_fd, config.slots, engine.info.slot_bytes)
    engine.pin(arena.buffer())
    return engine, arena


def _threads() -> int:
    """All cores but one: threads that wait for one another stall when the ROS side takes a core from them."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def _reason(error: Exception, config: EngineConfig) -> str:
    if isinstance(error, ValueError):  # CheckpointError, EngineError and TaskError say what to do
        return str(error)
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return (
            f"out of memory while loading {config.checkpoint} on {config.device} as {config.dtype}: "
            "use a smaller checkpoint or dtype bfloat16, or free the device"
        )
    return f"cannot load {config.checkpoint}: {type(error).__name__}: {error}"


def _run(engine: Engine, arena: Arena, requests: Sequence[FrameRequest]) -> Iterator[Answered]:
    """Answer each request when it is done; one that cannot be run gets an error and leaves the others be."""
    good: dict[int, FrameRequest] = {}
    pixels = []
    for request in requests:
        try:
            picture = arena.pixels(request, engine.info.tile)
            engine.check(request, picture)
        except ValueError as error:
            yield Answered(request.id, error=str(error))
        else:
            good[request.id] = request
            pixels.append(picture)
    batch = list(good.values())
    try:
        for index, answer in engine.stream(batch, pixels):
            del good[batch[index].id]
            yield Answered(batch[index].id, answer)
    except Exception as error:  # the engine stays usable; the parent counts and reports
        reason = f"{type(error).__name__}: {error}"
        yield from (Answered(id, error=reason) for id in good)


if __name__ == "__main__":
    main()
