"""Starts, supervises and restarts the engine's process, and sends it requests.

The engine (torch and the device's driver) has a process of its own, so that it can crash or hang without
stopping the node. One thread supervises that process and calls the callbacks. All methods return at once, and
``stop`` within its timeout. The process is not trusted: its messages are checked, and it is restarted after
an invalid one. docs/reliability.md describes its states.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait

import numpy as np

from argus_ros.core.engine_process import EngineProcess, memory_for_another
from argus_ros.core.protocol import (
    Answered,
    Arena,
    EngineConfig,
    Failed,
    FrameRequest,
    ModelInfo,
    Progress,
    ProtocolError,
    Ready,
    Run,
    Start,
    why_impossible,
    why_unusable,
)

log = logging.getLogger(__name__)

#: Seconds between two checks for a hung engine.
CHECK_INTERVAL = 0.25
#: Seconds before a restart: the first delay, which doubles while no frame is answered, and the longest.
FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0
#: Seconds before another try, after a spare process could not be started.
SPARE_DELAY = 30.0
#: Failed inferences in a row after which the process is replaced.
FAILURES_TOLERATED = 3


def delay_after(failures: int) -> float:
    """Seconds before a restart, after ``failures`` processes in a row gave no answer."""
    return min(FIRST_DELAY * 2 ** min(failures, 10), LONGEST_DELAY)


class EngineState(enum.Enum):
    STOPPED = "stopped"
    STARTING = "starting"  #: the model loads for the first time
    RUNNING = "running"
    DEGRADED = "degraded"  #: takes frames, but the last inference failed
    RECOVERING = "recovering"  #: it crashed, hung or kept failing; waits, or loads again
    FAILED = "failed"  #: it cannot work as configured, and is not restarted


#: States in which frames are accepted.
UP = (EngineState.RUNNING, EngineState.DEGRADED)


class EngineDownError(RuntimeError):
    """The engine accepts no frames now; the message gives the reason."""


@dataclass(frozen=True)
class _Pending:
    request: FrameRequest
    since: float
    allowance: float


class EngineClient:
    """The engine's process and the memory shared with it.

    ``on_answer`` gets one ``Answered`` for each request submitted, with an error where the engine crashed or
    hung; ``on_event`` gets each change of state and each step of loading, with a sentence; ``on_log`` gets
    each line that the process writes. All are called from the client's own thread (``on_log`` from another
    one) and must not block. ``hang_seconds`` is how long an answer may be overdue, and ``load_seconds`` how
    long a step of loading may take, before the process counts as hung. ``command`` starts an engine in
    another Python, such as a virtual environment with its own torch. With ``spare``, a second process loads
    the model and replaces one that is lost. It needs as much memory again, and is not started without it.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        on_answer: Callable[[Answered], None],
        on_event: Callable[[EngineState, str], None] = lambda state, text: None,
        on_log: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
        hang_seconds: float = 30.0,
        load_seconds: float = 600.0,
        spare: bool = False,
        command: Sequence[str] = (sys.executable, "-m", "argus_ros.vlm.worker"),
    ) -> None:
        self.config = config
        self.hang_seconds = hang_seconds
        self.load_seconds = load_seconds
        self.restarts = 0  #: number of restarts of the process
        self.failures = 0  #: number of failed inferences
        self.last_error = ""  #: the last failure of the engine or of an inference
        self.next_try = 0.0  #: time of the next restart on the steady clock, while it waits for that
        self.info: ModelInfo | None = None  #: of the running model; set once the engine is ready
        self._wants_spare = spare
        self._spare: EngineProcess | None = None
        self._spare_at = 0.0  # time of its next start
        self.on_answer, self._on_event, self._on_log = on_answer, on_event, on_log
        self._command = command
        self._changed = threading.Condition()  # guards the attributes below
        self._state = EngineState.STOPPED
        self._worker: EngineProcess | None = None
        self._pending: dict[int, _Pending] = {}  # oldest first
        self._answers = 0  # successful answers in total
        self._failing = 0  # failed inferences in a row
        self._arena: Arena | None = None
        self._free: list[int] = []
        self._thread: threading.Thread | None = None
        self._stop_within: float | None = None
        self._wake = os.eventfd(0)
        weakref.finalize(self, os.close, self._wake)

    # --- life -----------------------------------------------------------------------------------

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def pid(self) -> int | None:
        """Process id of the engine, None without a process."""
        worker = self._worker
        return worker.process.pid if worker else None

    @property
    def spare_pid(self) -> int | None:
        """Process id of the spare process, None without one."""
        spare = self._spare
        return spare.process.pid if spare else None

    @property
    def pending(self) -> int:
        """How many requests wait for their answer."""
        return len(self._pending)

    @property
    def spare(self) -> str:
        """State of the spare process: ``off``, ``none``, ``loading`` or ``ready``."""
        spare = self._spare
        if spare is None:
            return "none" if self._wants_spare else "off"
        return "ready" if spare.info else "loading"

    def start(self) -> None:
        """Start the process; the model loads in the background."""
        if self._thread is not None:
            raise RuntimeError("this EngineClient has been started before; create a new one")
        self._thread = threading.Thread(target=self._supervise, name="engine client", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout: float | None = None) -> ModelInfo:
        """Block until the model is loaded. Raises EngineDownError when that fails or ``timeout`` passes."""
        ends = (*UP, EngineState.FAILED)
        with self._changed:
            self._changed.wait_for(lambda: self._state in ends or self._stop_within is not None, timeout)
            if self._state in UP and self.info:
                return self.info
            raise EngineDownError(self.last_error or f"the engine is still {self._state.value}")

    def stop(self, timeout: float = 2.0) -> None:
        """End the process within ``timeout`` seconds, also in the middle of an inference."""
        with self._changed:
            self._stop_within = timeout
            self._changed.notify_all()
        os.eventfd_write(self._wake, 1)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # --- frames ---------------------------------------------------------------------------------

    def acquire(self) -> int | None:
        """A free slot of the shared memory, which the caller has to ``release``; None where none is free."""
        with self._changed:
            return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        with self._changed:
            self._free.append(slot)

    def slot(self, slot: int) -> np.ndarray:
        """The slot's memory, (slot_bytes,) uint8; stays valid when the engine restarts."""
        if self._arena is None:
            raise EngineDownError("the engine has not been ready yet")
        return self._arena.slot(slot)

    @property
    def takes_frames(self) -> bool:
        """Whether the engine takes whole frames: it cuts the tiles itself, or needs none."""
        return self.info is not None and self.info.whole_frames

    def submit(self, requests: Sequence[FrameRequest], hang_seconds: float | None = None) -> None:
        """Run these frames as one batch. Raises EngineDownError where the engine is not running."""
        allowance = self.hang_seconds if hang_seconds is None else hang_seconds
        with self._changed:
            if self._state not in UP:
                raise EngineDownError(f"the engine is {self._state.value}")
            now = time.monotonic()
            for request in requests:
                self._pending[request.id] = _Pending(request, now, allowance)
            if self._worker:  # else it just ended: each gets an error
                self._worker.send(Run(tuple(requests)))

    # --- the client's thread --------------------------------------------------------------------

    def _supervise(self) -> None:
        """Restart the process until it is stopped or cannot work."""
        failures = 0
        self._enter(EngineState.STARTING, "starting the engine's process")
        with contextlib.ExitStack() as stack:
            stack.callback(self._drop_spare)
            arena_fd = -1
            while self._stop_within is None:
                answers = self._answers
                try:
                    if arena_fd < 0:
                        arena_fd = Arena.create_file()
                        stack.callback(os.close, arena_fd)
                    error = self._run_worker(arena_fd)
                except _EngineFailed as failure:
                    self._down(EngineState.FAILED, str(failure))
                    return
                except (OSError, RuntimeError, MemoryError) as shortage:  # of descriptors, threads or memory
                    error = f"the engine's process cannot be started: {shortage}"
                if error is None:
                    break
                failures = 0 if self._answers > answers else failures + 1
                delay = 0.0 if not failures and self.spare == "ready" else delay_after(failures)
                self.next_try = time.monotonic() + delay
                self._down(EngineState.RECOVERING, error)
                wait([self._wake], delay)
                self.next_try = 0.0
                self.restarts += 1
                if self._stop_within is None:
                    self._enter(EngineState.RECOVERING, "starting the engine's process")
            self._down(EngineState.STOPPED, "")

    def _run_worker(self, arena_fd: int) -> str | None:
        """Run one process until it ends; returns why it ended, or None when it was stopped.

        Raises _EngineFailed, and OSError, RuntimeError or MemoryError where the system lacks descriptors,
        threads or memory.
        """
        worker, self._spare = self._spare or self._start_worker(arena_fd), None
        self._worker, self._failing = worker, 0
        self._spare_at = 0.0
        try:
            if worker.info:
                self._ready(worker.info, arena_fd)
            heard = time.monotonic()
            while True:
                spares: list[int] = [self._spare.channel.fileno(), self._spare.ended] if self._spare else []
                ready = wait([worker.channel.fileno(), worker.ended, self._wake, *spares], CHECK_INTERVAL)
                now = time.monotonic()
                if self._stop_within is not None:
                    worker.end(self._stop_within)
                    return None
                if worker.channel.fileno() in ready:
                    heard = now
                    try:
                        self._handle(worker.channel.receive(), arena_fd)
                    except (EOFError, OSError):
                        return worker.exit_message()
                    except ProtocolError as error:
                        return f"the engine's process broke the protocol: {error}; it was killed"
                    except _WorkerLost as lost:
                        return str(lost)
                elif worker.ended in ready:
                    return worker.exit_message()
                elif worker.blocked:
                    return "the engine's process does not read its messages; it was killed"
                elif (overdue := self._overdue(now, heard)) is not None:
                    return f"the engine's process hung: {overdue}; it was killed"
                if self._wants_spare:  # also under continuous load
                    self._manage_spare(ready, now, arena_fd, worker)
        finally:
            self._worker = None
            worker.kill()

    def _handle(self, message: object, arena_fd: int) -> None:
        """Process a message. Raises ProtocolError for an unexpected one, _WorkerLost and _EngineFailed."""
        match message:
            case Answered():
                self._take(message)
            case Progress(text) if self._state not in UP:
                self._enter(self._state, text)
            case Ready(info) if self._state not in UP:
                self._ready(info, arena_fd)
            case Failed(reason, transient):
                # A configuration that has worked before may work again.
                raise _WorkerLost(reason) if transient or self.info else _EngineFailed(reason)
            case _:
                raise ProtocolError(f"{type(message).__name__} while the engine is {self._state.value}")

    def _ready(self, info: ModelInfo, arena_fd: int) -> None:
        if impossible := why_impossible(info):
            raise ProtocolError(f"an impossible model: {impossible}")
        self._map(info, arena_fd)
        self._enter(EngineState.RUNNING, f"{info.name} on {info.device}")

    def _take(self, answered: Answered) -> None:
        with self._changed:
            pending = self._pending.get(answered.id)
        if pending is None:
            raise ProtocolError(f"an answer to unknown request {answered.id}")
        request, failed = pending.request, answered.error and not answered.refused
        if not answered.error and (why := why_unusable(answered.answer, request.width, request.height)):
            raise ProtocolError(f"an invalid answer: {why}")
        if failed:
            self._failing += 1
            self.failures += 1
            self.last_error = answered.error
            self._enter(EngineState.DEGRADED, answered.error)
        elif not answered.error:
            self._failing = 0
            self._answers += 1
            if self._state is EngineState.DEGRADED and self.info:
                self._enter(EngineState.RUNNING, f"{self.info.name} on {self.info.device}")
        with self._changed:
            del self._pending[answered.id]
        self._call(self.on_answer, answered)
        if self._failing >= FAILURES_TOLERATED:
            raise _WorkerLost(f"{self._failing} inferences in a row failed: {answered.error}")

    def _map(self, info: ModelInfo, arena_fd: int) -> None:
        """Map the arena. Slots and their frames survive a restart, as their layout stays the same."""
        with self._changed:
            if self._arena is None:
                self._arena = Arena(arena_fd, self.config.slots, info.slot_bytes)
                self._free = list(range(self.config.slots))
            elif self.info and self.info.slot_bytes != info.slot_bytes:
                raise _EngineFailed(
                    f"checkpoint {info.name} changed its tiles since the start; configure the node again"
                )
            self.info = info

    # --- the spare process ----------------------------------------------------------------------

    def _start_worker(self, arena_fd: int) -> EngineProcess:
        """Start a process and send the configuration. Raises _EngineFailed and what ``_run_worker`` does."""
        try:
            worker = EngineProcess(self._command, arena_fd, self._on_log)
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise _EngineFailed(f"the engine's process cannot be started: {error}") from None
        worker.send(Start(self.config))
        return worker

    def _manage_spare(
        self, ready: Sequence[object], now: float, arena_fd: int, worker: EngineProcess
    ) -> None:
        """Start the spare process while the engine runs, and process its messages."""
        spare = self._spare
        if spare is None:
            if self._state in UP and now >= self._spare_at:
                self._spare_at = now + SPARE_DELAY
                if memory_for_another(worker.process.pid):
                    with contextlib.suppress(OSError, RuntimeError, MemoryError, _EngineFailed):
                        self._spare = self._start_worker(arena_fd)
            return
        try:
            if spare.channel.fileno() in ready:
                match spare.channel.receive():
                    case Ready(info) if not why_impossible(info):
                        spare.info = info
                    case Progress():
                        pass
                    case Failed(reason):
                        raise ProtocolError(reason)
                    case other:
                        raise ProtocolError(type(other).__name__)
            elif spare.ended in ready:
                raise EOFError
        except (EOFError, OSError, ProtocolError) as error:
            self._on_log(f"the spare process was lost: {str(error) or spare.exit_message()}")
            self._drop_spare()
            self._spare_at = now + SPARE_DELAY

    def _drop_spare(self) -> None:
        if self._spare:
            self._spare.kill()
            self._spare = None

    def _overdue(self, now: float, heard: float) -> str | None:
        with self._changed:
            if self._state not in UP:
                late = now - heard > self.load_seconds
                return f"no message for {self.load_seconds:g} s while loading" if late else None
            oldest = next(iter(self._pending.values()), None)
            if oldest is None or now - max(oldest.since, heard) <= oldest.allowance:
                return None
            return f"no answer within {oldest.allowance:g} s"

    def _down(self, state: EngineState, error: str) -> None:
        """The process has ended: report the state first, then answer the outstanding requests."""
        self.last_error = error or self.last_error
        self._enter(state, error)
        with self._changed:
            outstanding, self._pending = list(self._pending), {}
        for request in outstanding:
            self._call(self.on_answer, Answered(request, error=error or "the engine was stopped"))

    def _enter(self, state: EngineState, text: str) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
        self._call(self._on_event, state, text)

    @staticmethod
    def _call(callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:  # an error in a callback must not end the supervision
            log.exception("a callback of the engine's client failed")


class _EngineFailed(Exception):
    """The engine cannot work as configured."""


class _WorkerLost(Exception):
    """The process has to be replaced."""
