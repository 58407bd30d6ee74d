"""`argus live SOURCE`: run the model on a USB camera, a video file or a stream, without ROS.

Detections are printed as JSON, one line per picture; with ``--video`` they are also drawn into a video. All
pictures of a file are run. Of a camera or stream the newest one is run, and pictures that arrive while the
model runs are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from argus_ros.core.image import Image
from argus_ros.core.offline import Offline
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.tracking import Tracker
from argus_ros.tools import replay, video
from argus_ros.tools.bag import Frame
from argus_ros.tools.results import annotate, line_of
from argus_ros.tools.video import Video

#: A camera or stream counts as lost after this many seconds without a picture.
SILENCE = 10.0
#: Frame rate of the written video, where the source does not state its own.
RATE = 15.0

Picture = tuple[int, np.ndarray]  #: stamp in nanoseconds, (height, width, 3) uint8 BGR


class SourceError(ValueError):
    """A source cannot be opened; the message says what is wrong and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="/dev/video0 (or 0), a video file, or an address (rtsp://, http://)")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write an annotated .mp4")
    parser.add_argument("--limit", type=int, help="number of pictures after which to stop")
    replay.add_asked(parser)


def run(options: argparse.Namespace) -> int:
    asked = replay.Asked.of(options)
    console = Console(stderr=True)  # standard output is for the JSON lines
    tracker = Tracker() if options.track else None
    config = EngineConfig(options.checkpoint, device=options.device, preset=options.preset)
    seconds: list[float] = []
    with ExitStack() as stack:
        source = stack.enter_context(Source(options.source))
        with console.status("loading the model"):
            engine = stack.enter_context(
                Offline(config, asked.checkpoint.tiling, hang_seconds=replay.PATIENCE)
            )
        film = stack.enter_context(Video(options.video, source.rate)) if options.video else None
        stopping = stack.enter_context(_interrupt())
        for stamp, bgr in source.pictures(stopping):
            height, width = bgr.shape[:2]
            image = Image(bgr, "bgr8", width, height, 3 * width)
            frame = Frame(source.name, options.source, stamp, stamp, "", image)
            result = replay.ask(engine, frame, asked, tracker)
            if result.answer:
                print(json.dumps(line_of(frame, result, asked.task.name), ensure_ascii=False), flush=True)
                seconds.append(result.times.total)
            if film:
                rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                annotate(rgb, result)
                film.write(rgb)
            if options.limit and len(seconds) >= options.limit:
                break
    if not seconds:
        raise SourceError(f"{options.source} gave no picture")
    p50, p95 = np.quantile(seconds, (0.5, 0.95))
    console.print(f"{len(seconds)} pictures, latency p50 {1e3 * p50:.0f} ms, p95 {1e3 * p95:.0f} ms")
    if film:
        console.print(f"  {options.video}")
        if trouble := video.missing():
            console.print(f"  {trouble}")
    return 0


class Source:
    """A source opened by OpenCV; a context manager. Raises SourceError."""

    def __init__(self, source: str) -> None:
        self._source = f"/dev/video{source}" if source.isdigit() else source
        self._is_file = Path(self._source).is_file()
        _check(self._source)
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # this module reports its errors
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._capture = cv2.VideoCapture(self._source)
        if not self._capture.isOpened():
            raise SourceError(_why_closed(self._source))
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    @property
    def name(self) -> str:
        """The camera's name: ``video0`` for ``/dev/video0``, ``drive`` for ``drive.mp4``."""
        return re.sub(r"\W", "_", Path(self._source).stem) or "camera"

    @property
    def rate(self) -> float:
        """Pictures per second, as the source states."""
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        return rate if 1 <= rate <= 240 else RATE

    def pictures(self, stopping: threading.Event) -> Iterator[Picture]:
        """Pictures until the source ends or ``stopping`` is set."""
        return self._every(stopping) if self._is_file else self._newest(stopping)

    def _every(self, stopping: threading.Event) -> Iterator[Picture]:
        number = 0
        while not stopping.is_set():
            got, bgr = self._capture.read()
            if not got:
                return
            yield round(number / self.rate * 1e9), bgr
            number += 1

    def _newest(self, stopping: threading.Event) -> Iterator[Picture]:
        news = threading.Condition()
        newest: list[Picture | None] = [None]
        ended = threading.Event()

        def read() -> None:
            while not ended.is_set():
                got, bgr = self._capture.read()
                with news:
                    if got:
                        newest[0] = time.time_ns(), bgr
                    else:
                        ended.set()
                    news.notify()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            while not stopping.is_set():
                with news:
                    if not news.wait_for(lambda: newest[0] or ended.is_set() or stopping.is_set(), SILENCE):
                        raise SourceError(f"{self._source} has given no picture for {SILENCE:.0f} s")
                    picture, newest[0] = newest[0], None
                if picture is None:
                    return
                yield picture
        finally:
            ended.set()
            reader.join(2.0)


def _check(source: str) -> None:
    """Raise SourceError where the file does not exist or is not readable."""
    path = Path(source)
    if "://" in source:
        return
    if not path.exists():
        there = ", ".join(sorted(str(device) for device in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"there is no {source}; cameras of this machine: {there}")
    if path.is_dir():
        raise SourceError(f"{source} is a folder; give a video file, or use 'argus replay' for a recording")
    if not os.access(path, os.R_OK):
        group = "; cameras need the group video: sudo usermod -aG video $USER, then log in again"
        raise SourceError(
            f"{source} is not readable for this user{group if source.startswith('/dev/') else ''}"
        )


def _why_closed(source: str) -> str:
    if source.startswith("/dev/"):
        return f"{source} gives no pictures: another program uses it, or it is not a camera (v4l2-ctl --all)"
    if "://" in source:
        return f"{source} cannot be opened: nothing answers there, or it is not a video stream"
    return f"{source} is not a video that OpenCV can read"


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """An event set by Ctrl-C, so that the current picture and the video are finished first."""
    stopping = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)
