"""The metrics that Prometheus reads over HTTP, compared with the reports; and the dashboard's queries."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from argus_ros.core.job import Report
from argus_ros.core.types import Answer, Outcome, StageTimes, Task
from argus_ros.ros.metrics import STAGES, Metrics, MetricsError

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "docs" / "examples" / "grafana.json"


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    served = Metrics(0, "127.0.0.1")
    yield served
    served.close()


def read(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels in alphabetical order."""
    with urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    samples = (sample for family in families for sample in family.samples)
    return {(s.name, *(label for _, label in sorted(s.labels.items()))): s.value for s in samples}


def report(outcome: Outcome = Outcome.PUBLISHED, camera: str = "front", total: float = 0.03) -> Report:
    times = StageTimes(wait=0.001, decode=0.015, total=total)
    answer = Answer(generated_tokens=12, decode_passes=7) if outcome is Outcome.PUBLISHED else None
    return Report(camera, None, outcome, "", Task(), answer, times, 0.05, level=1)


@pytest.mark.slow
def test_every_frame_is_counted_and_its_stages_are_sorted_in(metrics: Metrics) -> None:
    for total in (0.03, 0.04, 0.3):
        metrics.frame(report(total=total))
    metrics.frame(report(Outcome.STALE))
    metrics.frame(report(camera="left"))
    metrics.engine(True, 0.8, 2)
    found = read(metrics)
    assert found["argus_frames_total", "front", "published"] == 3
    assert found["argus_frames_total", "front", "stale"] == 1
    assert found["argus_frames_total", "left", "published"] == 1
    assert found["argus_stage_seconds_bucket", "front", "0.05", "total"] == 3
    assert found["argus_stage_seconds_bucket", "front", "0.5", "total"] == 4
    assert found["argus_stage_seconds_sum", "front", "decode"] == pytest.approx(0.06)
    assert ("argus_stage_seconds_count", "front", "vision") not in found, "a stage that did not run"
    assert found["argus_age_seconds_count", "front"] == 3
    assert found["argus_tokens_total", "front", "generated_tokens"] == 36
    assert found["argus_tokens_total", "front", "decode_passes"] == 21
    assert found["argus_budget_level", "front"] == 1
    assert found["argus_engine_up",] == 1
    assert found["argus_engine_load",] == 0.8
    assert found["argus_engine_restarts",] == 2


def test_stages_are_those_of_the_message() -> None:
    message = (ROOT / "msg" / "FrameTiming.msg").read_text()
    seconds = re.findall(r"^float32 (\w+)", message, re.MULTILINE)
    assert list(STAGES) == seconds


@pytest.mark.slow
def test_a_used_port_is_an_error_and_a_closed_one_is_free(metrics: Metrics) -> None:
    with pytest.raises(MetricsError, match=f"port {metrics.port} of 127.0.0.1: .*set metrics_port or"):
        Metrics(metrics.port, "127.0.0.1")
    with pytest.raises(MetricsError, match="metrics_address"):
        Metrics(0, "192.0.2.1")  # no address of any machine
    other = Metrics(0, "127.0.0.1")
    port = other.port
    other.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


@pytest.mark.slow
def test_the_dashboard_asks_for_what_is_served(metrics: Metrics) -> None:
    metrics.frame(report())
    metrics.engine(True, 0.5, 0)
    served = {name for name, *_ in read(metrics)}
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    names = [name for expression in asked for name in re.findall(r"\bargus_\w+", expression)]
    assert len(asked) >= 6
    assert set(names) <= served
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert len({p["id"] for p in dashboard["panels"]}) == len(places)
