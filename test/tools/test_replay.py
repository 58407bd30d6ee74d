"""`argus replay` offline: every frame of a bag through an engine that runs for real."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Writer

from argus_ros.tools import camera_bag
from argus_ros.tools.bag import COMPRESSED, IMAGE, Bag, stamp_ns, type_store
from argus_ros.tools.main import main
from argus_ros.training import scenes
from argus_ros.training.scenes.film import Walk
from argus_ros.vlm.models import blank

pytestmark = pytest.mark.slow  # engines start and end

WALKS = {
    "front": Walk(seed=3, seconds=1.0, rate=4.0, width=160, height=120),
    "left": Walk(seed=4, seconds=1.0, rate=4.0, width=160, height=120, speed=1.4),
}
FRAMES = 8

Replay = Callable[..., int]


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """The command on an untrained model, which finds objects at random, if always the same."""
    folder = blank.write_checkpoint(tmp_path_factory.mktemp("tiny"), classes=scenes.CLASSES)

    def replay(bag: Path, *options: object) -> int:
        return main(
            ["replay", *map(str, (bag, "--checkpoint", folder, "--device", "cpu", "--score", 0, *options))]
        )

    return replay


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film") / "bag"
    assert camera_bag.write(folder, WALKS) == FRAMES
    return folder


@pytest.fixture(scope="module")
def out(replay: Replay, bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    assert replay(bag, "--offline", "--out", folder, "--track") == 0
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in file.read_text().splitlines()]


def test_every_frame_is_answered_in_the_order_of_the_bag(out: Path, bag: Path) -> None:
    found = lines(out / "detections.jsonl")
    with Bag(bag) as recording:
        expected = [(f.camera, f.stamp) for f in recording.frames(recording.cameras())]
    assert [(line["camera"], line["stamp"]) for line in found] == expected
    detections = [d for line in found for d in line["detections"]]
    assert detections
    assert all(d["track_id"] for d in detections)
    assert all(
        0 <= d["x_min"] < d["x_max"] <= 160 and 0 <= d["y_min"] < d["y_max"] <= 120 for d in detections
    )
    timing = lines(out / "timing.jsonl")
    assert [(t["camera"], t["stamp"]) for t in timing] == expected
    assert all(t["outcome"] == "published" and t["total"] > t["prepare"] > 0 for t in timing)


def test_the_same_bytes_every_time(out: Path, replay: Replay, bag: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "again")  # what lies there is replaced
    assert replay(bag, "--out", tmp_path / "again", "--track") == 0
    assert (tmp_path / "again" / "detections.jsonl").read_bytes() == (out / "detections.jsonl").read_bytes()


def test_the_bag_of_detections_says_the_same(out: Path) -> None:
    with Bag(out / "bag") as recording:
        messages = [message for _, _, message in recording.messages(["/argus/detections"])]
    for message, line in zip(messages, lines(out / "detections.jsonl"), strict=True):
        assert (message.camera, stamp_ns(message.header)) == (line["camera"], line["stamp"])
        assert message.header.frame_id == f"{message.camera}_optical_frame"
        assert [d.label for d in message.detections] == [d["label"] for d in line["detections"]]
        assert [d.x_max for d in message.detections] == pytest.approx(
            [d["x_max"] for d in line["detections"]], abs=0.01
        )


def test_a_video_a_camera(out: Path) -> None:
    for camera in WALKS:
        video = cv2.VideoCapture(str(out / f"{camera}.mp4"))
        pictures = []
        while (got := video.read())[0]:
            pictures.append(got[1])
        assert [p.shape for p in pictures] == [(120, 160, 3)] * (FRAMES // 2)
        assert all(p.std() > 5 for p in pictures)


class Page(HTMLParser):
    """Checks that tags match, and collects headings and what would be loaded."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_the_report_needs_nothing_else(out: Path) -> None:
    text = (out / "report.html").read_text()
    page = Page(text)
    assert all(address.startswith("data:") for address in page.loaded)
    assert "url(" not in text
    assert "<script" not in text
    for heading in (
        "Latency over time",
        "Detections by class",
        "Frames without an answer",
        "Pictures: slowest",
    ):
        assert heading in page.texts
    assert sum("image/svg+xml" in address for address in page.loaded) == 2
    assert sum("image/jpeg" in address for address in page.loaded) >= 3


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here")
def test_a_browser_shows_the_report_without_complaint(out: Path, tmp_path: Path) -> None:
    words = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    )
    done = subprocess.run(
        ["chromium", *words, f"--user-data-dir={tmp_path}", "--dump-dom", f"file://{out / 'report.html'}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "Latency over time" in done.stdout
    assert "CONSOLE" not in done.stderr


# --- regression test ----------------------------------------------------------------------------


def test_an_expectation_is_written_met_and_missed(
    replay: Replay, bag: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = tmp_path / "expected.jsonl"
    assert replay(bag, "--expect", expected) == 2
    assert "--update" in capsys.readouterr().err
    assert replay(bag, "--expect", expected, "--update", "--track") == 0
    assert expected.read_bytes() == (out / "detections.jsonl").read_bytes()
    assert replay(bag, "--expect", expected) == 0
    assert f"as expected in {FRAMES} frames" in capsys.readouterr().out

    changed = lines(expected)
    first = next(line for line in changed if line["detections"])
    first["detections"][0]["label"] = "unicorn"
    expected.write_text("".join(json.dumps(line) + "\n" for line in changed))
    assert replay(bag, "--expect", expected, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert re.search(rf"{first['camera']} .*- unicorn at", said)
    assert f"1 of {FRAMES} frames changed; missing: 1 unicorn; new: 1" in said
    report = (tmp_path / "out" / "report.html").read_text()
    assert "- unicorn at" in report
    assert "Pictures: changed most" in report
    assert len(json.loads((tmp_path / "out" / "summary.json").read_text())["changes"]) == 1


# --- bad input ----------------------------------------------------------------------------------


def test_a_damaged_bag_keeps_what_was_processed(
    replay: Replay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = type_store()
    header = store.types["std_msgs/msg/Header"](store.types["builtin_interfaces/msg/Time"](1, 0), "front")
    good = store.types[IMAGE](header, 24, 32, "rgb8", 0, 96, np.zeros(24 * 96, np.uint8))
    with Writer(tmp_path / "bag", version=9) as writer:
        topic = writer.add_connection("/front/image_raw", IMAGE, typestore=store)
        for number in range(3):
            writer.write(topic, number, bytes(store.serialize_cdr(good, IMAGE)))
        writer.write(topic, 3, bytes(store.serialize_cdr(good, IMAGE))[:40])
    assert replay(tmp_path / "bag", "--out", tmp_path / "out") == 2
    assert "damaged after 3 messages" in capsys.readouterr().err
    assert len(lines(tmp_path / "out" / "detections.jsonl")) == 3
    assert (tmp_path / "out" / "report.html").exists()


def test_frames_that_change_size_and_pictures_that_are_none(
    replay: Replay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = type_store()

    def jpeg(number: int, data: np.ndarray) -> bytes:
        stamp = store.types["builtin_interfaces/msg/Time"](number, 0)
        header = store.types["std_msgs/msg/Header"](stamp, "")
        return bytes(store.serialize_cdr(store.types[COMPRESSED](header, "jpeg", data), COMPRESSED))

    sizes = [(48, 64), (96, 128), (30, 40)]
    pictures = [cv2.imencode(".jpg", np.full((*size, 3), 90, np.uint8))[1].ravel() for size in sizes]
    with Writer(tmp_path / "bag", version=9) as writer:
        topic = writer.add_connection("/cam/image_raw/compressed", COMPRESSED, typestore=store)
        for number, data in enumerate([*pictures, np.frombuffer(b"no picture", np.uint8)]):
            writer.write(topic, number, jpeg(number, data))
    assert replay(tmp_path / "bag", "--out", tmp_path / "out") == 0
    assert [(line["height"], line["width"]) for line in lines(tmp_path / "out" / "detections.jsonl")] == sizes
    timing = lines(tmp_path / "out" / "timing.jsonl")
    assert [t["outcome"] for t in timing] == ["published"] * 3 + ["undecodable"]
    assert "neither JPEG nor PNG" in timing[-1]["reason"]
    assert "neither JPEG nor PNG" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--topic", "/rear"], "no images on /rear; it has /front/camera_info"),
        (["--classes", "unicorn"], "unicorn"),
        (["--rate", "2"], "--rate goes with --live only"),
        (["--live", "--limit", "2"], "--limit goes with --offline only"),
        (["--live", "--threads", "2"], "--threads goes with --offline only"),
        (["--limit", "0"], "has to be above 0"),
        (["--update"], "--update needs --expect"),
        (["--iou", "2"], "has to be between 0 and 1"),
        (["--checkpoint", "nowhere"], "no checkpoint 'nowhere'"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_misuse_says_what_to_do(
    replay: Replay, bag: Path, options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(bag, *options) == 2
    assert reason in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_left_alone(
    replay: Replay, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "mine").write_text("dear to me")
    assert replay(bag, "--out", tmp_path) == 2
    assert "is not a bag of an earlier run" in capsys.readouterr().err
    assert (tmp_path / "bag" / "mine").exists()
