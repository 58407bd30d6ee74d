"""Measures the encoding of a video, by PyAV as in argus and by OpenCV: seconds of CPU time.

    python bench/video.py --json bench/results/video.json

The pictures are those of a demo, encoded for 15 Hz on one core; each figure is the median of three runs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from argus_ros.tools import machine, video
from argus_ros.training.scenes.film import Walk, film

RATE = 15.0


def by_pyav(encoder: str, path: Path, pictures: list[np.ndarray]) -> bool:
    """With ``argus_ros.tools.video``, which takes the first available encoder."""
    chosen, video.ENCODERS = video.ENCODERS, {encoder: video.ENCODERS[encoder]}
    try:
        if not video.find_encoder():
            return False
        with video.Video(path, RATE) as film:
            for picture in pictures:
                film.write(picture)
    finally:
        video.ENCODERS = chosen
    return True


def by_opencv(code: str, path: Path, pictures: list[np.ndarray]) -> bool:
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), RATE, (width, height))
    if not writer.isOpened():
        return False
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return True


WAYS: dict[str, tuple[Callable[[str, Path, list[np.ndarray]], bool], str, str]] = {
    "H.264 by PyAV": (by_pyav, "libx264", "mp4"),
    "VP9 by PyAV": (by_pyav, "libvpx-vp9", "mp4"),
    "mp4v by OpenCV": (by_opencv, "mp4v", "mp4"),
    "VP8 by OpenCV": (by_opencv, "VP80", "webm"),
    "VP9 by OpenCV": (by_opencv, "VP90", "webm"),
    "H.264 by OpenCV": (by_opencv, "avc1", "mp4"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    walk = Walk(3, given.pictures / RATE, RATE, given.width, given.height)
    pictures = [shot.image for shot in film(walk)]
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (encode, codec, ending) in WAYS.items():
            taken = []
            path = Path(folder, f"film.{ending}")
            for _ in range(given.runs):
                began = time.process_time()
                if not encode(codec, path, pictures):
                    break
                taken.append(time.process_time() - began)
            if not taken:
                print(f"{name}: this encoder is not available")
                continue
            found[name] = {"seconds": float(np.median(taken)), "kilobytes": path.stat().st_size / 1e3}
            print(f"{name}: {found[name]['seconds']:.2f} s, {found[name]['kilobytes']:.0f} kB")
    if given.json:
        told = machine.describe()
        told["versions"]["av"] = importlib.metadata.version("av")
        settings = {name: getattr(given, name) for name in ("pictures", "width", "height", "runs")}
        given.json.write_text(json.dumps({**told, **settings, "ways": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
