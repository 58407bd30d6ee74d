"""Starts the engine's process, sends it requests, supervises it, and restarts it.

The engine (torch, and the device with its driver) lives in a process of its own, so that it can die or
hang without taking the node along. One thread supervises that process and calls back; all methods
return at once, ``stop`` within its timeout. The process is not trusted: its messages are checked, and
an invalid message ends it. docs/reliability.md has its states.
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

#: Seconds between two looks at whether the engine hangs.
LOOK_INTERVAL = 0.25
#: Seconds before a restart: the first, doubling while no frame is answered, and the longest.
FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0
#: Seconds before another spare process is tried, after one could not be started.
SPARE_DELAY = 30.0
#: Inferences in a row that may fail before the process is replaced.
FAILURES_TOLERATED = 3


def delay_after(failures: int) -> float:
    """Seconds before a restart, after this many processes in a row gave no answer."""
    return min(FIRST_DELAY * 2 ** min(failures, 10), LONGEST_DELAY)


class EngineState(enum.Enum):
    STOPPED = "stopped"
    STARTING = "starting"  #: the model loads for the first time
    RUNNING = "running"
    DEGRADED = "degraded"  #: takes frames, but the last inference failed
    RECOVERING = "recovering"  #: it died, hung or kept failing; waits, or loads again
    FAILED = "failed"  #: it cannot work as configured, so it is not started again


#: Those in which frames are taken.
UP = (EngineState.RUNNING, EngineState.DEGRADED)


class EngineDownError(RuntimeError):
    """The engine takes no frames now; says why."""


@dataclass(frozen=True)
class _Pending:
    request: FrameRequest
    since: float
    allowance: float


class EngineClient:
    """An engine's process and the shared memory with it.

    ``on_answer`` gets one ``Answered`` for each request submitted, with an error where the engine died
    or hung on it; ``on_event`` each change of state and each step of loading, with a sentence;
    ``on_log`` each line that the process writes. All are called from the client's own thread (``on_log``
    from another) and must not block. ``hang_seconds`` is how long an answer may be overdue,
    ``load_seconds`` how long a step of loading may take, before the process counts as hung. ``command``
    is for an engine that lives in another Python, such as a virtual environment with its own torch.
    With ``spare`` a second process that has loaded the model waits to take the place of one that is lost,
    where the memory is there; it takes as much again.
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
        self.restarts = 0  #: times the process was started again
        self.failures = 0  #: inferences that failed
        self.last_error = ""  #: why the engine died, hung or failed last, or an inference did
        self.next_try = 0.0  #: when it is started again, on the steady clock, while it waits for that
        self.info: ModelInfo | None = None  #: what runs; set from the first time the engine is ready
        self._wants_spare = spare
        self._spare: EngineProcess | None = None
        self._spare_at = 0.0  # when to start one
        self.on_answer, self._on_event, self._on_log = on_answer, on_event, on_log
        self._command = command
        self._changed = threading.Condition()  # guards what follows
        self._state = EngineState.STOPPED
        self._worker: EngineProcess | None = None
        self._pending: dict[int, _Pending] = {}  # oldest first
        self._answers = 0  # good ones, ever
        self._failing = 0  # inferences in a row that failed
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
        """Process id of the engine, while there is one."""
        worker = self._worker
        return worker.process.pid if worker else None

    @property
    def spare_pid(self) -> int | None:
        """Process id of the spare process, while there is one."""
        spare = self._spare
        return spare.process.pid if spare else None

    @property
    def pending(self) -> int:
        """How many requests wait for their answer."""
        return len(self._pending)

    @property
    def spare(self) -> str:
        """How the spare process is: ``off``, ``none``, ``loading`` or ``ready``."""
        spare = self._spare
        if spare is None:
            return "none" if self._wants_spare else "off"
        return "ready" if spare.info else "loading"

    def start(self) -> None:
        """Start the process; the model loads in the background."""
        if self._thread is not None:
            raise RuntimeError("an EngineClient is started once; make a new one")
        self._thread = threading.Thread(target=self._supervise, name="engine client", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout: float | None = None) -> ModelInfo:
        """Block until the model is loaded. Raises EngineDownError when it fails or takes too long."""
        ends = (*UP, EngineState.FAILED)
        with self._changed:
            self._changed.wait_for(lambda: self._state in ends or self._stop_within is not None, timeout)
            if self._state in UP and self.info:
                return self.info
            raise EngineDownError(self.last_error or f"the engine is still {self._state.value}")

    def stop(self, timeout: float = 2.0) -> None:
        """End the process, also in the middle of an inference, within ``timeout`` seconds."""
        with self._changed:
            self._stop_within = timeout
            self._changed.notify_all()
        os.eventfd_write(self._wake, 1)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # --- frames ---------------------------------------------------------------------------------

    def acquire(self) -> int | None:
        """A free slot of the shared memory, the caller's until ``release``; None while there is none."""
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
    def cuts(self) -> bool:
        """Whether the engine takes whole frames, and cuts the tiles itself or needs none."""
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
            if self._worker:  # else it has just died, and they are about to be answered so
                self._worker.send(Run(tuple(requests)))

    # --- the client's thread --------------------------------------------------------------------

    def _supervise(self) -> None:
        """Start the process again and again, until it is stopped or cannot work."""
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
                    error = self._attend(arena_fd)
                except _Failure as failure:
                    self._down(EngineState.FAILED, str(failure))
                    return
                except (OSError, RuntimeError, MemoryError) as short:  # of descriptors, threads or memory
                    error = f"the engine's process cannot be started: {short}"
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

    def _attend(self, arena_fd: int) -> str | None:
        """One life of the process: why it ended, or None when it was stopped. Raises _Failure, and OSError,
        RuntimeError or MemoryError where the system lacks descriptors, threads or memory.
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
                ready = wait([worker.channel.fileno(), worker.ended, self._wake, *spares], LOOK_INTERVAL)
                now = time.monotonic()
                if self._stop_within is not None:
                    worker.end(self._stop_within)
                    return None
                if worker.channel.fileno() in ready:
                    heard = now
                    try:
                        self._handle(worker.channel.receive(), arena_fd)
                    except (EOFError, OSError):
                        return worker.last_words()
                    except ProtocolError as error:
                        return f"the engine's process broke the protocol: {error}; it was killed"
                    except _Lost as lost:
                        return str(lost)
                elif worker.ended in ready:
                    return worker.last_words()
                elif worker.deaf:
                    return "the engine's process takes no messages; it was killed"
                elif (overdue := self._overdue(now, heard)) is not None:
                    return f"the engine's process hung: {overdue}; it was killed"
                if self._wants_spare:  # also while answers come without a pause
                    self._tend_spare(ready, now, arena_fd, worker)
        finally:
            self._worker = None
            worker.kill()

    def _handle(self, message: object, arena_fd: int) -> None:
        """Take a message. Raises ProtocolError for one that cannot be now, _Lost and _Failure."""
        match message:
            case Answered():
                self._take(message)
            case Progress(text) if self._state not in UP:
                self._enter(self._state, text)
            case Ready(info) if self._state not in UP:
                self._ready(info, arena_fd)
            case Failed(reason, passing):
                # A configuration that has worked once may work again.
                raise _Lost(reason) if passing or self.info else _Failure(reason)
            case _:
                raise ProtocolError(f"{type(message).__name__} while it is {self._state.value}")

    def _ready(self, info: ModelInfo, arena_fd: int) -> None:
        if impossible := why_impossible(info):
            raise ProtocolError(f"a model that cannot be: {impossible}")
        self._map(info, arena_fd)
        self._enter(EngineState.RUNNING, f"{info.name} on {info.device}")

    def _take(self, answered: Answered) -> None:
        with self._changed:
            pending = self._pending.get(answered.id)
        if pending is None:
            raise ProtocolError(f"an answer to request {answered.id}, which was not asked")
        request, failed = pending.request, answered.error and not answered.refused
        if not answered.error and (why := why_unusable(answered.answer, request.width, request.height)):
            raise ProtocolError(f"an answer that cannot be: {why}")
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
            raise _Lost(f"{self._failing} inferences in a row failed: {answered.error}")

    def _map(self, info: ModelInfo, arena_fd: int) -> None:
        """Slots outlive a restart, with the frames in them, because they keep their place."""
        with self._changed:
            if self._arena is None:
                self._arena = Arena(arena_fd, self.config.slots, info.slot_bytes)
                self._free = list(range(self.config.slots))
            elif self.info and self.info.slot_bytes != info.slot_bytes:
                raise _Failure(
                    f"checkpoint {info.name} changed its tiles under the engine; configure it again"
                )
            self.info = info

    # --- the spare process ----------------------------------------------------------------------

    def _start_worker(self, arena_fd: int) -> EngineProcess:
        """Start a process and have it load. Raises _Failure and what ``_attend`` does."""
        try:
            worker = EngineProcess(self._command, arena_fd, self._on_log)
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise _Failure(f"the engine's process cannot be started: {error}") from None
        worker.send(Start(self.config))
        return worker

    def _tend_spare(self, ready: Sequence[object], now: float, arena_fd: int, worker: EngineProcess) -> None:
        """Start the spare process when the engine runs, and see to it."""
        spare = self._spare
        if spare is None:
            if self._state in UP and now >= self._spare_at:
                self._spare_at = now + SPARE_DELAY
                if memory_for_another(worker.process.pid):
                    with contextlib.suppress(OSError, RuntimeError, MemoryError, _Failure):
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
            self._on_log(f"the spare process was lost: {str(error) or spare.last_words()}")
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
                return f"nothing heard for {self.load_seconds:g} s while loading" if late else None
            oldest = next(iter(self._pending.values()), None)
            if oldest is None or now - max(oldest.since, heard) <= oldest.allowance:
                return None
            return f"no answer within {oldest.allowance:g} s"

    def _down(self, state: EngineState, error: str) -> None:
        """There is no process: report the state first, then answer the outstanding requests."""
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


class _Failure(Exception):
    """The engine cannot work as configured."""


class _Lost(Exception):
    """This process has to be replaced."""
