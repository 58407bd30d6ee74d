"""`argus replay --live` plays to the real node, which says what the offline run says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("argus_ros.msg")

from argus_ros.tools import camera_bag
from argus_ros.training.scenes.film import Walk

FRAMES, LOOPS = 6, 2
WALK = Walk(seed=3, seconds=2.0, rate=FRAMES / 2, width=160, height=120)
#: Generous: what is tested is the words, on a machine that may be busy.
DEADLINE = 60


def replay(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = ["-m", "argus_ros.tools.main", "replay", *map(str, arguments)]
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, env=os.environ
    )


@pytest.mark.timeout(400)
def test_live_and_offline_agree(ros: Any, tmp_path: Path, blank: Path) -> None:
    bag, expected = tmp_path / "bag", tmp_path / "expected.jsonl"
    camera_bag.write(bag, {"front": WALK})
    asked = (bag, "--checkpoint", blank, "--device", "cpu", "--score", 0, "--track")
    offline = replay(*asked, "--expect", expected, "--update")
    assert offline.returncode == 0, offline.stderr
    found = [json.loads(row) for row in expected.read_text().splitlines()]
    assert any(line["detections"] for line in found)

    out = tmp_path / "out"
    options = (
        "--live",
        "--loop",
        LOOPS,
        "--deadline",
        DEADLINE,
        "--expect",
        expected,
        "--iou",
        0.99,
        "--out",
        out,
    )
    live = replay(*asked, *options)
    assert live.returncode == 0, live.stdout + live.stderr
    assert "as expected in" in live.stdout
    timing = [json.loads(row) for row in (out / "timing.jsonl").read_text().splitlines()]
    assert len(timing) == FRAMES
    published = [line for line in timing if line["outcome"] == "published"]
    assert published
    assert all(line["age"] > 0 and line["total"] > 0 for line in published)
    assert "Age of published answers" in (out / "report.html").read_text()
