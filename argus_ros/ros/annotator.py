"""Draws the newest answer into its image, in a separate thread, while the output has subscribers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np
from std_msgs.msg import Header

from argus_ros.core.drawing import draw
from argus_ros.core.image import Image, ImageError, decode
from argus_ros.msg import DetectionArray

log = logging.getLogger(__name__)

Drawn = Callable[[Header, np.ndarray], None]


class Annotator:
    """Calls ``publish`` with drawn pictures (height, width, 3), uint8 RGB; skips answers while it draws."""

    def __init__(self, publish: Drawn) -> None:
        self._publish = publish
        self._news = threading.Condition()
        self._next: tuple[Image, DetectionArray] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="annotator", daemon=True)
        self._thread.start()

    def offer(self, image: Image, detections: DetectionArray) -> None:
        with self._news:
            self._next = image, detections
            self._news.notify()

    def close(self) -> None:
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._next or self._closed)
                if self._closed or self._next is None:
                    return
                (image, detections), self._next = self._next, None
            try:
                picture = np.array(decode(image).rgb())  # a copy: raw pixels belong to the message
                draw(picture, detections.detections, detections.text)
                self._publish(detections.header, picture)
            except ImageError:  # the engine may have used a valid part of it
                continue
            except Exception:  # one picture must not end the thread
                log.exception("camera %s: an answer could not be drawn", detections.camera)
