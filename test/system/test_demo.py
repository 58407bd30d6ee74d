"""`argus demo` with three cameras: from the rendered bag to the summary, over real topics."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("argus_ros.msg")

CAMERAS = ("front", "left", "right")


@pytest.mark.timeout(300)
def test_three_cameras(ros: Any, tmp_path: Path) -> None:
    # A generous deadline: what is tested is that every frame is accounted for, on a machine that may be busy.
    options = ("--cameras", "3", "--seconds", "2", "--rate", "5", "--deadline", "60", "--out", str(tmp_path))
    demo = ros.start("demo", sys.executable, "-m", "argus_ros.tools.main", "demo", *options)
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
