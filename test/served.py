"""A faulty OpenAI-compatible server in a process of its own, and an engine that asks it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argus_ros.core.protocol import EngineConfig, FrameRequest, why_unusable
from argus_ros.core.types import Task
from argus_ros.tools.pictures import photograph
from argus_ros.vlm.engine import engines
from argus_ros.vlm.engine.server import ServerEngine

SIZE = (120, 90)
DETECT = Task("detect", ("cone", "ball"))
BOXES = '[{"bbox_2d": [100, 200, 300, 400], "label": "cone"}, {"bbox_2d": [1, 2], "label": "ball"}]'


class Fault:
    """A server in its own process; a test plans its next answers."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.url = process, f"http://127.0.0.1:{port}/v1"
        self._port = port

    def next(self, *plans: dict[str, Any]) -> None:
        """What the next chat completions are answered with; the last one from then on."""
        self._call("POST", "/plan", json.dumps(plans).encode())

    def seen(self) -> list[dict[str, Any]]:
        """The bodies of the chat completions since the last call."""
        return json.loads(self._call("GET", "/seen"))

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request(method, path, body)
        return connection.getresponse().read()


@contextmanager
def fault_server(port: int = 0) -> Iterator[Fault]:
    command = [sys.executable, str(Path(__file__).with_name("fault_server.py")), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Fault(process, int(process.stdout.readline()))
        finally:
            process.kill()


def config(url: str, **more: Any) -> EngineConfig:
    return EngineConfig(
        url, **{"backend": "openai", "answer_format": "qwen3_vl", "server_timeout": 5.0, **more}
    )


def engine_of(fault: Fault, **more: Any) -> ServerEngine:
    engine = engines.load(config(fault.url, **more))
    assert isinstance(engine, ServerEngine)
    return engine


def request(task: Task = DETECT, **more: Any) -> FrameRequest:
    return FrameRequest(1, 0, 0, 0, *SIZE, task, frame=SIZE, **more)


def run(engine: ServerEngine, task: Task = DETECT, **more: Any) -> Any:
    ((_, answer),) = engine.stream([request(task, **more)], [photograph(SIZE)])
    if isinstance(answer, Exception):
        raise answer
    assert why_unusable(answer, *SIZE) == ""
    return answer


def stream_of(*messages: dict[str, Any]) -> dict[str, Any]:
    """A plan with the events of a stream, which then ends."""
    end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    body = "".join(f"data: {json.dumps(message)}\n\n" for message in (*messages, end))
    return {"body": f"{body}data: [DONE]\n\n", "type": "text/event-stream"}
