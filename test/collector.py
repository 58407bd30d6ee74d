"""A collector of OpenTelemetry traces on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Serves at ``address`` inside a ``with`` block, and keeps what it gets."""

    def __init__(self) -> None:
        self._spans: list[Any] = []
        self._news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.end_headers()
                collector._take(ExportTraceServiceRequest.FromString(body))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> list[Any]:
        with self._news:
            return list(self._spans)

    def wait(self, fits: Callable[[Any], bool], timeout: float) -> Any:
        """The first span that fits."""

        def found() -> Any:
            return next((span for span in self._spans if fits(span)), None)

        with self._news:
            assert self._news.wait_for(found, timeout), [span.name for span in self._spans]
            return found()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        with self._news:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self._spans += scope.spans
            self._news.notify_all()
