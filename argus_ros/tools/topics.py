"""Plays a bag on real topics, with a player, the node and a listener in separate processes.

They use a separate ROS domain, so that the recording's time on ``/clock`` does not reach other nodes, and
answers of other nodes are not received.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from argus_ros.core import domain, fastdds
from argus_ros.core.engine_client import EngineState

NODE = "/argus"
#: Timeout for loading the model, and for messages after the end of the bag, seconds.
LOADING, SILENCE = 120.0, 3.0

Message = tuple[str, dict[str, Any]]  #: name of an output of the node, and its message
Heard = queue.Queue[Message]


@contextmanager
def own_domain(console: Console) -> Iterator[dict[str, str]]:
    """The environment for processes in a separate ROS domain, reserved until the end of the block."""
    claim, number = domain.claim()
    with claim:
        console.print(f"using a separate ROS domain: ROS_DOMAIN_ID={number}", highlight=False)
        yield fastdds.with_large_images(
            os.environ | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": str(number)}
        )


@contextmanager
def playing(
    environment: dict[str, str],
    bag: Path,
    parameters: Mapping[str, Any],
    frames: int,
    console: Console,
    player_options: Sequence[str] = (),
) -> Iterator[Iterator[Message]]:
    """Play a bag to a node with these parameters, in the environment from ``own_domain``.

    Yields the node's messages as they arrive: (``detections``, ``detections_3d`` or ``timing``, message),
    until ``frames`` images have their outcome. Raises ValueError where the node does not start.
    """
    given = {"use_sim_time": True, **parameters}
    arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    with ExitStack() as stack:
        if trouble := fastdds.short_of_memory(environment):
            console.print(trouble, markup=False, highlight=False, soft_wrap=True)

        def start(module: str, *words: str) -> subprocess.Popen[str]:
            return stack.enter_context(process(module, *words, environment=environment, console=console))

        heard = listen(start("listener", NODE), console)
        node = start("program", "--ros-args", *arguments)
        with console.status("starting the node and loading the model"):
            _wait_for_engine(heard, node)
        options = ("--clock", *player_options)
        player = start("player", str(bag), *options)
        yield _messages(heard, player, frames)


def require_ros() -> None:
    """Raise ValueError where ROS is not available."""
    if find_spec("rclpy") is None or find_spec("argus_ros.msg") is None:
        raise ValueError("real topics need ROS 2 and the built workspace: 'make setup', or source both")


def stamp(message: dict[str, Any]) -> int:
    """The stamp of its header, in nanoseconds."""
    time = message["header"]["stamp"]
    return time["sec"] * 1_000_000_000 + time["nanosec"]


def _messages(heard: Heard, player: subprocess.Popen[str], frames: int) -> Iterator[Message]:
    last = time.monotonic()
    while frames:
        try:
            topic, message = heard.get(timeout=0.5)
        except queue.Empty:
            topic, message = "", {}
        if topic in ("detections", "detections_3d", "timing"):
            last = time.monotonic()
            frames -= topic == "timing"  # the last message of a frame
            yield topic, message
        elif player.poll() is not None and time.monotonic() - last > SILENCE:
            return  # the rest was lost


@contextmanager
def process(
    module: str, *arguments: str, environment: dict[str, str], console: Console
) -> Iterator[subprocess.Popen[str]]:
    """Run a module of ``argus_ros.ros`` in its own process, ended with SIGINT; logs go to the console."""
    started = subprocess.Popen(
        [sys.executable, "-m", f"argus_ros.ros.{module}", *arguments],
        env=environment,
        stdout=subprocess.PIPE if module in ("listener", "watch") else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is passed on below, only once
    )

    interrupted = threading.Event()

    def say() -> None:
        assert started.stderr is not None
        for line in started.stderr:
            if not interrupted.is_set():
                console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)

    saying = threading.Thread(target=say, daemon=True)
    saying.start()
    try:
        yield started
    except (KeyboardInterrupt, OSError):
        interrupted.set()  # ignore errors of a process stopped during its start
        raise
    finally:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(10.0)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        saying.join(1.0)


def listen(listener: subprocess.Popen[str], console: Console) -> Heard:
    """The listener's messages (topic, message), as they arrive.

    The middleware writes to the same output: lines that are not messages go to the console.
    """
    heard: Heard = queue.Queue()

    def read() -> None:
        assert listener.stdout is not None
        for line in listener.stdout:
            try:
                entry = json.loads(line)
                heard.put((entry["topic"], entry["message"]))
            except (ValueError, KeyError, TypeError):
                console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)

    threading.Thread(target=read, daemon=True, name="listener").start()
    return heard


def _wait_for_engine(heard: Heard, node: subprocess.Popen[str]) -> None:
    """Wait until diagnostics report that the engine runs. Raises ValueError with its error instead."""
    end = time.monotonic() + LOADING
    last = "no diagnostics were received from the node"
    while time.monotonic() < end:
        if node.poll() is not None:
            raise ValueError("the node ended; see its log above")
        try:
            topic, message = heard.get(timeout=1.0)
        except queue.Empty:
            continue
        for status in message["status"] if topic == "diagnostics" else ():
            if status["name"].endswith("engine"):
                last = status["message"]
                state = next((v["value"] for v in status["values"] if v["key"] == "state"), "")
                if state == EngineState.RUNNING.value:
                    return
                if state in (EngineState.FAILED.value, EngineState.RECOVERING.value):
                    raise ValueError(f"the engine cannot be started: {last}")
    raise ValueError(f"the engine was not ready after {LOADING:.0f} s: {last}")
