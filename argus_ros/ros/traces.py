"""Sends an OpenTelemetry trace of every frame, by OTLP over HTTP."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from argus_ros.core.job import Report
from argus_ros.core.types import Outcome

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

#: Stages that follow each other in the engine.
ENGINE = ("transfer", "vision", "prefill", "decode")
PATH = "/v1/traces"  #: default path of collectors
PATIENCE = 2.0  #: timeout of a batch, and of the remaining ones at the end, seconds
MISSING = (
    "traces_endpoint needs opentelemetry, which is not installed: "
    "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
)


class TracesError(ValueError):
    """There are no traces; the message says why and what to do."""


class Traces:
    """Creates the spans of each frame at its end. Not thread-safe.

    ``processor`` gets the spans; ``node``, a full name, is the service's name.
    """

    def __init__(self, node: str, processor: SpanProcessor) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Ids(RandomIdGenerator):
            trace_id = 0

            def generate_trace_id(self) -> int:
                return self.trace_id

        self._ids = Ids()
        resource = Resource.create({SERVICE_NAME: node})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("argus_ros")

    def frame(self, report: Report, stamp: int) -> None:
        """Trace a frame that has just ended; ``stamp`` of its image in nanoseconds."""
        end = time.time_ns()
        self._ids.trace_id = trace_id(report.camera, stamp)
        arrived = end - _ns(report.times.total)
        root = self._span("frame", min(end - _ns(report.age), arrived))
        root.set_attributes(_attributes(report, stamp))
        for name, start, seconds in _stages(report):
            self._span(name, arrived + _ns(start), root).end(arrived + _ns(start + seconds))
        if report.age > report.times.total:
            self._span("transport", end - _ns(report.age), root).end(arrived)
        root.end(end)

    def close(self) -> None:
        """Send the remaining spans, for ``PATIENCE`` seconds at most."""
        # Its shutdown has no timeout: it sends every batch, each with a timeout of its own.
        last = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        last.start()
        last.join(PATIENCE)

    def _span(self, name: str, start: int, parent: Span | None = None) -> Span:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(parent, Context()) if parent else Context()
        return self._tracer.start_span(name, context, start_time=start)


def traces_to(endpoint: str, node: str) -> Traces:
    """Traces for a collector at ``http://HOST:PORT``. Raises TracesError, which never quotes a password.

    ``OTEL_*`` variables in the environment set everything else: headers, certificates, a sampler.
    """
    if "@" in endpoint:
        raise TracesError(
            "traces_endpoint contains a user name or a password, which would be written to logs: remove the "
            "part before the @, and put a key into the environment variable OTEL_EXPORTER_OTLP_HEADERS"
        )
    if not _is_address(endpoint):
        raise TracesError(
            f"traces_endpoint is {endpoint!r}; it has to be an address such as http://127.0.0.1:4318"
        )
    if importlib.util.find_spec("opentelemetry") is None:
        raise TracesError(MISSING)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    except ImportError:  # its parts are separate packages
        raise TracesError(MISSING) from None

    class Exporter(OTLPSpanExporter):
        """Logs once that the collector is not reached, and once that it is reached again."""

        reached = True

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = super().export(spans)
            reached = result is SpanExportResult.SUCCESS
            if reached is not self.reached:
                log.warning("traces %s %s", "reach" if reached else "are lost: they do not reach", whole)
            self.reached = reached
            return result

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would log each failed batch
    whole = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + PATH
    try:
        return Traces(node, BatchSpanProcessor(Exporter(whole, timeout=PATIENCE)))
    except ValueError as error:
        raise TracesError(f"traces cannot be sent: {error}; correct the variables OTEL_*") from None


def _is_address(endpoint: str) -> bool:
    try:
        address = urlsplit(endpoint)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # no valid port, or a [ without ]
        return False


def trace_id(camera: str, stamp: int) -> int:
    """The trace id of a frame, from camera and stamp (nanoseconds): other programs can add spans to it."""
    return int.from_bytes(hashlib.sha256(f"{camera} {stamp}".encode()).digest()[:16], "big")


def _stages(report: Report) -> Iterator[tuple[str, float, float]]:
    """(name, start, duration) of a frame's stages, in seconds from its arrival."""
    times = report.times
    yield "queue", 0.0, times.wait
    if times.prepare:
        yield "preprocess", times.wait, times.prepare
    if report.answer and report.engine_start:
        start = report.engine_start
        for name in ENGINE:
            if seconds := getattr(times, name):
                yield name, start, seconds
                start += seconds
    if times.publish:
        yield "publish", times.total - times.publish, times.publish


def _attributes(report: Report, stamp: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "argus.camera": report.camera,
        "argus.stamp": f"{stamp // 1_000_000_000}.{stamp % 1_000_000_000:09}",
        "argus.outcome": report.outcome.name.lower(),
        "argus.reason": report.reason,
        "argus.task": report.task.name,
        "argus.budget_level": report.level,
    }
    if report.outcome is Outcome.PUBLISHED and report.answer:
        described["argus.detections"] = len(report.answer.detections)
        described["argus.generated_tokens"] = report.answer.generated_tokens
    return described


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
