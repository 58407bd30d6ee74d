"""Serves the values of ``~/timing`` to Prometheus, as counters and histograms, over HTTP."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import fields
from http.server import ThreadingHTTPServer

from argus_ros.core.job import Report
from argus_ros.core.types import Answer, Outcome, StageTimes

#: Bounds of the histograms in seconds, three per decade: from a stage on a GPU to a slow answer.
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
#: Counts of an answer that are summed.
TOKENS = ("visual_tokens", "generated_tokens", "drafted_tokens", "accepted_tokens")
STAGES = tuple(field.name for field in fields(StageTimes))
MISSING = "needs prometheus-client, which is not installed: pip install prometheus-client"


class MetricsError(ValueError):
    """Metrics cannot be served; the message says why and what to do."""


class Metrics:
    """Serves metrics at ``http://ADDRESS:PORT/metrics`` until closed; thread-safe.

    It has its own registry, so that a process can have several nodes. Raises MetricsError.
    """

    def __init__(self, port: int, address: str) -> None:
        if importlib.util.find_spec("prometheus_client") is None:
            raise MetricsError(f"metrics_port {MISSING}")
        # Imported here, as it takes 50 ms that only users of metrics should wait for.
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, MetricsHandler

        registry = CollectorRegistry()
        frames = "Frames that ended, by outcome."
        self._frames = Counter("argus_frames", frames, ["camera", "outcome"], registry=registry)
        stages = "Seconds of a frame in each stage that ran."
        self._stages = Histogram(
            "argus_stage_seconds", stages, ["camera", "stage"], buckets=BUCKETS, registry=registry
        )
        age = "Age of published answers: seconds from the image's stamp."
        self._age = Histogram("argus_age_seconds", age, ["camera"], buckets=BUCKETS, registry=registry)
        tokens = "Tokens of frames that ran, and passes of the decoder."
        self._tokens = Counter("argus_tokens", tokens, ["camera", "kind"], registry=registry)
        level = "Budget levels below the full one, of the newest frame that ran."
        self._level = Gauge("argus_budget_level", level, ["camera"], registry=registry)
        self._up = Gauge("argus_engine_up", "1 while the engine takes frames, else 0.", registry=registry)
        load = "Engine seconds needed per second."
        self._load = Gauge("argus_engine_load", load, registry=registry)
        restarts = "Restarts of the engine's process."
        self._restarts = Gauge("argus_engine_restarts", restarts, registry=registry)
        try:
            # prometheus_client's start_http_server cannot be stopped before version 0.20; Debian 12 has 0.16.
            self._server = ThreadingHTTPServer((address, port), MetricsHandler.factory(registry))
        except (OSError, OverflowError) as error:
            raise MetricsError(
                f"metrics cannot be served on port {port} of {address}: {error}; set metrics_port or "
                "metrics_address to a free port or an address of this machine"
            ) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port in use; where 0 was requested, the system's choice."""
        return int(self._server.server_port)

    def frame(self, report: Report) -> None:
        """Count a frame that has ended."""
        camera, answer = report.camera, report.answer or Answer()
        self._frames.labels(camera, report.outcome.name.lower()).inc()
        for stage in STAGES:
            if seconds := getattr(report.times, stage):
                self._stages.labels(camera, stage).observe(seconds)
        if report.outcome is Outcome.PUBLISHED:
            self._age.labels(camera).observe(report.age)
        if report.answer:
            self._level.labels(camera).set(report.level)
        for kind in (*TOKENS, "decode_passes"):
            if count := getattr(answer, kind):
                self._tokens.labels(camera, kind).inc(count)

    def engine(self, up: bool, load: float, restarts: int) -> None:
        """Set the state of the engine."""
        self._up.set(up)
        self._load.set(load)
        self._restarts.set(restarts)

    def close(self) -> None:
        """Stop serving, and return when the port is free."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
