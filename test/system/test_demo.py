"""`argus demo`: from the rendered bag to the summary over real topics, and the live page beside it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("argus_ros.msg")

from rich.console import Console
from robot import WAIT
from websockets.asyncio.client import connect

from argus_ros.tools import watch
from argus_ros.tools.demo import program

CAMERAS = ("front", "left", "right")
DEMO = (sys.executable, "-m", "argus_ros.tools.main", "demo")


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Nobody else gets this port of the loopback."""
    try:
        holder: AbstractContextManager[Any] = socket.create_server(("127.0.0.1", port))
    except OSError:  # somebody has it already
        holder = nullcontext()
    with holder:
        yield


@pytest.mark.timeout(300)
def test_three_cameras(ros: Any, tmp_path: Path) -> None:
    # A generous deadline: what is tested is that every frame is accounted for, on a machine that may be busy.
    options = ("--cameras", "3", "--seconds", "2", "--rate", "5", "--deadline", "60", "--out", str(tmp_path))
    demo = ros.start("demo", *DEMO, *options, "--no-page")
    assert demo.wait(240.0) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["cameras"]) == set(CAMERAS)
    for figures in (summary, *summary["cameras"].values()):
        assert figures["frames_processed"] > 0
        assert figures["frames_processed"] + sum(figures["dropped"].values()) == figures["frames_sent"]
    assert summary["frames_sent"] == 30
    assert summary["position"]["placed"] > 10
    assert summary["position"]["error"] < 0.05
    for camera in CAMERAS:
        assert camera in demo.output
        assert (tmp_path / f"{camera}.mp4").stat().st_size > 0
    assert "first boxes " in demo.output
    tops = [line for line in demo.output.splitlines() if "┏" in line]
    assert len(tops) == 2
    assert all(line.startswith("┏") for line in tops), "each table begins a line of its own"
    assert len((tmp_path / "detections.jsonl").read_text().splitlines()) == summary["frames_processed"]
    assert "live page: " not in demo.output


@pytest.mark.timeout(300)
def test_the_live_page_shows_boxes_while_the_demo_runs_and_ends_with_it(ros: Any, tmp_path: Path) -> None:
    options = ("--seconds", "4", "--rate", "5", "--deadline", "60", "--out", str(tmp_path))
    with taken(watch.PORT):
        demo = ros.start("demo", *DEMO, *options)
        line = demo.wait_for("live page: ", 3 * WAIT)
    assert line.endswith(f"(port {watch.PORT} is taken)\n")
    address = line.split()[2]
    with urlopen(address) as page:
        assert page.status == 200

    async def boxes() -> list[str]:
        where = address.replace("http", "ws") + "socket"
        async with connect(where, origin=address.rstrip("/"), max_size=1 << 24) as browser:  # type: ignore[arg-type]
            while True:
                message = await browser.recv()
                if isinstance(message, str) and (labels := json.loads(message).get("labels")):
                    return list(labels)

    assert asyncio.run(asyncio.wait_for(boxes(), 200.0))
    assert demo.wait(240.0) == 0
    with pytest.raises(URLError, match="refused"):
        urlopen(address)
    next_steps = demo.output.partition("next steps:\n")[2]
    for words in ("live /dev/video0", "demo --bag PATH", "demo --model FOLDER"):
        assert f"{program()} {words}" in next_steps


class Said(io.StringIO):
    """A console's file; ``wait_for`` returns once a text was written."""

    def __init__(self) -> None:
        super().__init__()
        self._news = threading.Condition()

    def write(self, text: str) -> int:
        with self._news:
            self._news.notify_all()
            return super().write(text)

    def wait_for(self, text: str) -> str:
        with self._news:
            assert self._news.wait_for(lambda: text in self.getvalue(), WAIT), self.getvalue()
            return self.getvalue()


def test_without_its_packages_there_is_no_page_and_the_demo_says_what_to_install(
    ros: Any, tmp_path: Path
) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError(\"No module named 'uvicorn'\")\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    said = Said()
    with watch.beside(ros.environment | {"PYTHONPATH": path}, Console(file=said)):
        words = said.wait_for("there is no live page")
    assert "No module named 'uvicorn'; starlette, uvicorn and websockets are needed: pip install" in words
    assert "Traceback" not in words
