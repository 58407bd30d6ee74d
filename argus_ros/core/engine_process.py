"""One process of the engine: its start, messages, log and end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from argus_ros.core.protocol import Channel, ModelInfo, Shutdown, ToClient

#: A spare process is started if this many times the engine's own memory is available.
SPARE_MEMORY = 1.5

_ROOT = str(Path(__file__).parents[2])


class EngineProcess:
    """One process of the engine, with its connection and its log.

    Raises OSError, RuntimeError or MemoryError where it cannot be started.
    """

    def __init__(self, command: Sequence[str], arena_fd: int, on_log: Callable[[str], None]) -> None:
        self.blocked = False  #: it does not read its messages
        self.info: ModelInfo | None = None  #: set on a spare process that has loaded
        self._said: deque[str] = deque(maxlen=20)
        with contextlib.ExitStack() as undo:  # where a later step fails
            ours, theirs = Channel.pair()
            undo.callback(ours.close)
            with theirs:
                self.process = self._start(command, theirs, arena_fd)
            undo.callback(self.process.wait)
            undo.callback(self._kill_all)
            assert self.process.stdout is not None
            undo.callback(self.process.stdout.close)
            self.channel = Channel(ours, ToClient)
            self.ended = os.pidfd_open(self.process.pid)  # readable once the process has ended
            undo.callback(os.close, self.ended)
            self._reader = threading.Thread(target=self._read, args=(on_log,), name="engine log", daemon=True)
            self._reader.start()
            undo.pop_all()

    @staticmethod
    def _start(command: Sequence[str], theirs: socket.socket, arena_fd: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--connection", str(theirs.fileno()), "--arena", str(arena_fd)],
            pass_fds=(theirs.fileno(), arena_fd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_python_path()), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C reaches only the parent, which then stops the engine
        )

    def _read(self, on_log: Callable[[str], None]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._said.append(line.rstrip())
                on_log(line.rstrip())

    def send(self, message: object) -> None:
        try:
            self.channel.send(message)
        except BlockingIOError:
            self.blocked = True
        except OSError:  # the process is ending; the reading side reports it
            pass

    def exit_message(self) -> str:
        """Wait for the process, and describe how it ended."""
        by_itself = wait([self.ended], 0.2)
        self.kill()
        self._reader.join(0.2)
        if not by_itself:
            return "the engine's process closed its connection"
        code = self.process.returncode
        how = f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += ", perhaps out of memory"
        said = next((line for line in reversed(self._said) if line.strip()), "")
        return f"the engine's process died ({how})" + (f": {said}" if said else "")

    def end(self, within: float) -> None:
        """Ask the process to end, then terminate it, then kill it, within ``within`` seconds in total."""
        self.send(Shutdown())
        if not wait([self.ended], within / 4):
            self.process.terminate()
            wait([self.ended], within / 4)
        self.kill()

    def kill(self) -> None:
        if self.ended < 0:
            return
        self._kill_all()
        self.process.wait()
        self.channel.close()
        os.close(self.ended)
        self.ended = -1

    def _kill_all(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def memory_for_another(pid: int) -> bool:
    """Whether this machine has enough free memory for a second process like this one."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        return available * 1024 > SPARE_MEMORY * pages * os.sysconf("SC_PAGE_SIZE")
    return False


def _python_path() -> list[str]:
    """PYTHONPATH with this package first, wherever the parent found it."""
    return [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
