"""What ``~/timing`` says, for Prometheus: counted and sorted into histograms, served over HTTP."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import fields
from http.server import ThreadingHTTPServer

from argus_ros.core.job import Report
from argus_ros.core.types import Answer, Outcome, StageTimes

#: Bounds of the histograms, in seconds: three a decade, from what a stage takes on a GPU to a slow answer.
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
#: Counts of an answer that are summed up.
TOKENS = ("visual_tokens", "generated_tokens", "drafted_tokens", "accepted_tokens")
STAGES = tuple(field.name for field in fields(StageTimes))
MISSING = "needs prometheus-client, which is not installed: pip install prometheus-client"


class MetricsError(ValueError):
    """Why there is nothing served, and what to do."""


class Metrics:
    """Serves at ``http://ADDRESS:PORT/metrics`` until it is closed; may be told from any thread.

    It has a registry of its own, so that several nodes may live in a process. Raises MetricsError.
    """

    def __init__(self, port: int, address: str) -> None:
        if importlib.util.find_spec("prometheus_client") is None:
            raise MetricsError(f"metrics_port {MISSING}")
        # Here, for it takes 50 ms that nobody else has to wait for.
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, MetricsHandler

        registry = CollectorRegistry()
        frames = "Frames that ended, by what became of them."
        self._frames = Counter("argus_frames", frames, ["camera", "outcome"], registry=registry)
        stages = "Seconds a frame spent in each stage, of those that it went through."
        self._stages = Histogram(
            "argus_stage_seconds", stages, ["camera", "stage"], buckets=BUCKETS, registry=registry
        )
        age = "Age of what was published: seconds from the image's stamp."
        self._age = Histogram("argus_age_seconds", age, ["camera"], buckets=BUCKETS, registry=registry)
        tokens = "Tokens of frames that ran, and passes of the decoder."
        self._tokens = Counter("argus_tokens", tokens, ["camera", "kind"], registry=registry)
        level = "Steps below the full budget, of the newest frame that ran."
        self._level = Gauge("argus_budget_level", level, ["camera"], registry=registry)
        self._up = Gauge("argus_engine_up", "1 while the engine takes frames, else 0.", registry=registry)
        load = "Engine seconds asked for per second."
        self._load = Gauge("argus_engine_load", load, registry=registry)
        restarts = "Times the engine's process was started again."
        self._restarts = Gauge("argus_engine_restarts", restarts, registry=registry)
        try:
            # Its own start_http_server cannot be ended before version 0.20; Debian 12 has 0.16.
            self._server = ThreadingHTTPServer((address, port), MetricsHandler.factory(registry))
        except (OSError, OverflowError) as error:
            raise MetricsError(
                f"metrics cannot be served on port {port} of {address}: {error}; set metrics_port or "
                "metrics_address to what is free on this machine"
            ) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """That it listens on; where 0 was asked for, the system's choice."""
        return int(self._server.server_port)

    def frame(self, report: Report) -> None:
        """A frame has ended."""
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
        """How the engine is."""
        self._up.set(up)
        self._load.set(load)
        self._restarts.set(restarts)

    def close(self) -> None:
        """Return when nothing is served any more and the port is free."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
