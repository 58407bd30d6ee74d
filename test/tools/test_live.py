"""`argus live` on a video that was written here, and on sources that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from argus_ros.tools import video
from argus_ros.tools.main import main
from argus_ros.tools.video import Video
from argus_ros.training import scenes
from argus_ros.training.scenes.film import Walk, film
from argus_ros.vlm.models import blank

COUNT = 4
WALK = Walk(seed=3, seconds=1.0, rate=COUNT, width=161, height=121)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video with an odd number of rows and columns, and a picture of another size at its end."""
    path = tmp_path_factory.mktemp("film") / "drive.mp4"
    with Video(path, WALK.rate) as out:
        for shot in film(WALK):
            out.write(shot.image)
    return path


def pictures(path: Path) -> list[np.ndarray]:
    capture, found = cv2.VideoCapture(str(path)), []
    while (got := capture.read())[0]:
        found.append(got[1])
    return found


def test_a_video_shows_what_was_written(drive: Path) -> None:
    found = pictures(drive)
    assert [p.shape for p in found] == [(120, 160, 3)] * COUNT
    for picture, shot in zip(found, film(WALK), strict=True):
        assert abs(picture[..., ::-1].astype(int) - shot.image[:120, :160]).mean() < 8


def test_browsers_play_it(drive: Path) -> None:
    av = pytest.importorskip("av", reason="without PyAV it is mp4v, and said to be")
    with av.open(str(drive)) as opened:
        stream = opened.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
    data = drive.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert video.missing() == ""


def test_without_pyav_there_is_a_video_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "find_encoder", lambda: "")
    with Video(tmp_path / "a.mp4", 5.0) as out:
        for size in ((40, 60), (40, 60), (20, 30)):
            out.write(np.full((*size, 3), 90, np.uint8))
    assert [p.shape for p in pictures(tmp_path / "a.mp4")] == [(40, 60, 3)] * 3
    assert "pip install av" in video.missing()


@pytest.mark.slow
def test_every_picture_of_a_file_is_a_line(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = blank.write_checkpoint(tmp_path / "tiny", classes=scenes.CLASSES)
    out = tmp_path / "seen.mp4"
    asked = ("--checkpoint", folder, "--device", "cpu", "--score", 0, "--video", out)
    assert main(["live", *map(str, (drive, *asked))]) == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [(line["camera"], line["stamp"]) for line in lines] == [
        ("drive", round(i / COUNT * 1e9)) for i in range(COUNT)
    ]
    assert {(line["width"], line["height"]) for line in lines} == {(160, 120)}
    assert any(line["detections"] for line in lines)
    assert f"{COUNT} pictures, latency p50" in said.err
    assert len(pictures(out)) == COUNT


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/dev/video99", "there is no /dev/video99; cameras of this machine: "),
        ("99", "there is no /dev/video99"),
        (lambda folder: folder, "is a folder; give a video file, or use 'argus replay' for a recording"),
        (lambda folder: folder / "text.mp4", "is not a video that OpenCV can read"),
        ("rtsp://127.0.0.1:9/none", "cannot be opened: nothing answers there"),
    ],
)
def test_what_is_no_source_says_so(
    source: str | Callable[[Path], Path], reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert main(["live", source if isinstance(source, str) else str(source(tmp_path))]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("argus live: ")
    assert reason in last
