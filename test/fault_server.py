"""An OpenAI-compatible server that answers or fails as planned: ``python fault_server.py PORT``.

``POST /plan`` takes a list of actions for the next chat completions; the last one repeats. Actions: ``text``
(streamed word by word, with ``probability`` if given), ``pause`` for some seconds ``after`` a number of
pieces, ``status``, ``header`` and ``body`` with a ``type``, ``close`` the connection, ``hang``, ``drip`` a
number of small pieces, 0.1 s each, ``refuse`` a field. With ``only``, the action applies to requests that
contain these words, and ``else`` to the others. ``GET /seen`` returns the request bodies since then. The
server prints its port.
"""

from __future__ import annotations

import json
import math
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

plans: list[dict[str, Any]] = [{"text": "hello"}]
bodies: list[dict[str, Any]] = []
lock = threading.Lock()
in_flight = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._say(json.dumps({"data": [{"id": "some-model"}]}).encode())
        elif self.path == "/seen":
            with lock:
                self._say(json.dumps(bodies).encode())
                bodies.clear()
        else:
            self._say(b"no such page", 404, "text/plain")

    def do_POST(self) -> None:
        global in_flight, plans
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/plan":
            with lock:
                plans = body
                bodies.clear()
            self._say(b"{}")
            return
        with lock:
            in_flight += 1
            plan = plans.pop(0) if len(plans) > 1 else plans[0]
            bodies.append(
                {**body, "in_flight": in_flight, "authorization": self.headers.get("Authorization", "")}
            )
        while plan.get("only", "") not in json.dumps(body["messages"]):
            plan = plan["else"]
        try:
            self._complete(plan, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with lock:
                in_flight -= 1

    def _complete(self, plan: dict[str, Any], body: dict[str, Any]) -> None:
        if plan.get("hang"):
            time.sleep(60)
        for _ in range(plan.get("drip", 0)):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.1)
        if plan.get("close"):
            self.close_connection = True
        elif plan.get("refuse") in body:
            self._say(f"extra field {plan['refuse']} is not permitted".encode(), 400, "text/plain")
        elif "text" in plan:
            self._stream(plan, body)
        else:
            kind = plan.get("type", "text/plain")
            self._say(plan["body"].encode("latin-1"), plan.get("status", 200), kind, plan.get("header"))

    def _stream(self, plan: dict[str, Any], body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for count, piece in enumerate(re.findall(r"\s*\S+\s*$|\s*\S+", plan["text"])):
            if count == plan.get("after"):
                time.sleep(plan["pause"])
            choice: dict[str, Any] = {"index": 0, "delta": {"content": piece}}
            if "probability" in plan and body.get("logprobs"):
                choice["logprobs"] = {"content": [{"token": piece, "logprob": math.log(plan["probability"])}]}
            self._chunk(f"data: {json.dumps({'choices': [choice]})}\n\n")
        self._chunk(f"data: {json.dumps({'choices': [{'delta': {}, 'finish_reason': 'stop'}]})}\n\n")
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _say(
        self, data: bytes, status: int = 200, kind: str = "application/json", header: list[str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if header:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
