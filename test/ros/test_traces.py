"""The spans of frames, as an exporter in memory and a collector on HTTP get them."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from collector import Collector
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from argus_ros.core.job import Report
from argus_ros.core.types import Answer, Outcome, StageTimes, Task
from argus_ros.ros import traces
from argus_ros.ros.traces import Traces, TracesError, trace_id, traces_to

STAMP = 1_700_000_000_123_456_789
TIMES = StageTimes(
    wait=0.01, prepare=0.02, transfer=0.001, vision=0.05, prefill=0.03, decode=0.1, publish=0.002, total=0.3
)
PUBLISHED = Report(
    "front", None, Outcome.PUBLISHED, "in time", Task(), Answer(generated_tokens=12), TIMES, 0.35,
    engine_start=0.04,
)  # fmt: skip
STALE = replace(PUBLISHED, outcome=Outcome.STALE, answer=None, times=StageTimes(wait=0.2, total=0.2), age=0.2)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def made(exporter: InMemorySpanExporter) -> Iterator[Traces]:
    made = Traces("/argus", SimpleSpanProcessor(exporter))
    yield made
    made.close()


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_published_frame_is_one_trace_from_its_stamp_to_its_publication(
    made: Traces, exporter: InMemorySpanExporter
) -> None:
    made.frame(PUBLISHED, STAMP)
    found = spans(exporter)
    root = found["frame"]
    stages = ["transport", "queue", "preprocess", "transfer", "vision", "prefill", "decode", "publish"]
    assert sorted(found) == sorted(["frame", *stages])
    assert root.parent is None
    assert all(found[name].parent == root.context for name in stages)
    assert {span.context.trace_id for span in found.values()} == {trace_id("front", STAMP)}
    assert root.resource.attributes["service.name"] == "/argus"
    assert root.attributes is not None
    assert root.attributes["argus.stamp"] == "1700000000.123456789"
    assert root.attributes["argus.outcome"] == "published"
    assert root.attributes["argus.generated_tokens"] == 12

    def begin(name: str) -> float:
        return (found[name].start_time - root.start_time) * 1e-9  # type: ignore[operator]

    def seconds(name: str) -> float:
        return (found[name].end_time - found[name].start_time) * 1e-9  # type: ignore[operator]

    assert seconds("frame") == pytest.approx(0.35, abs=1e-6)
    assert seconds("transport") == pytest.approx(0.05, abs=1e-6)
    for name, stage in (("queue", "wait"), ("preprocess", "prepare"), ("decode", "decode")):
        assert seconds(name) == pytest.approx(getattr(TIMES, stage), abs=1e-6)
    assert begin("queue") == pytest.approx(0.05, abs=1e-6)
    assert begin("transfer") == pytest.approx(0.09, abs=1e-6), "when the engine got it"
    assert begin("decode") == pytest.approx(0.171, abs=1e-6), "after what came before it"
    assert begin("publish") + seconds("publish") == pytest.approx(0.35, abs=1e-6)
    ordered = sorted(stages, key=begin)
    assert ordered == stages


def test_a_frame_that_was_dropped_has_the_stages_that_it_went_through(
    made: Traces, exporter: InMemorySpanExporter
) -> None:
    made.frame(STALE, STAMP)
    found = spans(exporter)
    assert sorted(found) == ["frame", "queue"]
    assert (found["frame"].attributes or {})["argus.outcome"] == "stale"
    assert "argus.generated_tokens" not in (found["frame"].attributes or {})


def test_a_stamp_in_the_future_begins_no_span_after_its_end(
    made: Traces, exporter: InMemorySpanExporter
) -> None:
    made.frame(replace(PUBLISHED, age=-5.0), STAMP)
    for span in exporter.get_finished_spans():
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


@pytest.mark.slow
def test_a_node_without_traces_loads_nothing_of_opentelemetry() -> None:
    code = "import sys, argus_ros.ros.node; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_each_frame_has_a_trace_of_its_own() -> None:
    assert len({trace_id("front", STAMP), trace_id("left", STAMP), trace_id("front", STAMP + 1)}) == 3
    assert trace_id("front", STAMP) < 1 << 128


@pytest.mark.slow
def test_a_collector_gets_what_was_left_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "PATIENCE", 60.0)  # of a busy machine
    with Collector() as collector:
        sent = traces_to(collector.address, "/argus")
        sent.frame(PUBLISHED, STAMP)
        sent.close()
        received = collector.spans()
    assert len(received) == 9
    assert {span.trace_id for span in received} == {trace_id("front", STAMP).to_bytes(16, "big")}


@pytest.mark.slow
def test_a_collector_that_is_not_there_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9")  # a frame's spans
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    sent = traces_to(f"http://127.0.0.1:{port}", "/argus")
    monkeypatch.setattr(traces, "PATIENCE", 60.0)  # of a busy machine, for the end
    for i in range(3):
        sent.frame(PUBLISHED, STAMP + i)
    sent.close()
    (record,) = caplog.records
    assert record.getMessage() == f"traces are lost: they do not reach http://127.0.0.1:{port}/v1/traces"


def test_a_collector_that_is_silent_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "PATIENCE", 0.01)
    released = threading.Event()

    class Silent(InMemorySpanExporter):
        def shutdown(self) -> None:
            released.wait()

    sent = Traces("/argus", SimpleSpanProcessor(Silent()))
    sent.close()  # pytest's timeout ends a test that waits here
    released.set()


def test_variables_that_contradict_each_other_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20")
    with pytest.raises(TracesError, match=r"max_export_batch_size .*; correct the variables OTEL_"):
        traces_to("http://127.0.0.1:4318", "/argus")


def test_a_password_in_the_address_is_refused_and_not_quoted() -> None:
    with pytest.raises(TracesError, match="OTEL_EXPORTER_OTLP_HEADERS") as refusal:
        traces_to("http://robot:secret@127.0.0.1:4318", "/argus")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:4318", "ftp://127.0.0.1", "http://", "grpc://a:1", "http://[::1:4318", "http://a:99999"],
)
def test_what_is_no_address_of_a_collector_is_a_sentence(address: str) -> None:
    with pytest.raises(TracesError, match=re.escape("such as http://127.0.0.1:4318")):
        traces_to(address, "/argus")
