"""Answers are drawn in a thread of their own, the newest first."""

from __future__ import annotations

import queue

import numpy as np
import pytest
from argus_ros.msg import Detection, DetectionArray
from std_msgs.msg import Header

from argus_ros.core.image import Image
from argus_ros.ros.annotator import Annotator

PATIENCE = 30.0
GREY = Image(bytes(range(120)) * 160, "mono8", 160, 120, 160)


def answer(camera: str) -> DetectionArray:
    box = Detection(label="cone", score=0.5, x_min=20.0, y_min=30.0, x_max=90.0, y_max=100.0)
    return DetectionArray(camera=camera, header=Header(frame_id=camera), detections=[box])


def test_a_picture_that_goes_wrong_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    drawn: queue.Queue[tuple[Header, np.ndarray]] = queue.Queue()

    def publish(header: Header, picture: np.ndarray) -> None:
        drawn.put((header, picture))
        if header.frame_id == "bad":
            raise ValueError("nobody listens")

    annotator = Annotator(publish)
    for camera in ("bad", "good"):
        annotator.offer(GREY, answer(camera))
        header, picture = drawn.get(timeout=PATIENCE)
        assert header.frame_id == camera
        assert picture.shape == (120, 160, 3)
        assert (picture != picture[..., :1]).any(), "the box is in colour, the image is not"
    annotator.offer(Image(b"", "mono8", 160, 120, 160), answer("undecodable"))
    annotator.close()
    assert "camera bad: an answer could not be drawn" in caplog.text
    assert drawn.empty()
