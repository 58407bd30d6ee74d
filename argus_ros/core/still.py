"""The gate of recipe ``still_gate``: an unchanged scene is answered with what was said of it before."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from argus_ros.core.types import Answer, StageTimes, Status

SIDE = 32  #: of a thumbnail, pixels
#: Grey levels that a pixel of the thumbnail may differ by. Something of such a pixel's size (20x15 in a
#: picture of 640x480) that comes, goes or moves is noticed from a contrast of four times this on, wherever
#: it lies; a sensor's noise is averaged away, and stays below up to a standard deviation of about ten.
THRESHOLD = 8


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """What is compared of a picture (height, width, 3) uint8: (SIDE, SIDE, 3) int16, areas averaged."""
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)


@dataclass(frozen=True)
class Look:
    """A prepared frame as the gate sees it."""

    view: np.ndarray  #: a ``thumbnail``
    question: Hashable  #: all that the answer depends on beside the picture
    level: int  #: budget level
    capture_time: float  #: steady seconds at which its age was zero


class StillGate:
    """Keeps the last answer of each camera that came from the engine, with the picture it was given to.

    A picture is held against that one, not against its predecessor, so that what moves slowly is noticed as
    soon as it has gone far enough. After ``longest`` seconds the engine is asked again in any case.
    """

    def __init__(self, longest: float = 1.0) -> None:
        self.longest = longest
        self._known: dict[str, tuple[Look, Answer]] = {}

    def remember(self, camera: str, look: Look, answer: Answer) -> None:
        """The engine has answered; an answer cut short is not worth repeating."""
        if answer.status is Status.OK:
            self._known[camera] = (look, answer)
        else:
            self.forget(camera)

    def recall(self, camera: str, look: Look) -> Answer | None:
        """The answer to repeat, marked REUSED; None where the engine has to look."""
        known, answer = self._known.get(camera, (None, None))
        if known is None or answer is None or known.question != look.question or known.level < look.level:
            return None
        if not 0.0 <= look.capture_time - known.capture_time <= self.longest:
            return None
        if np.abs(known.view - look.view).max() > THRESHOLD:
            return None
        return replace(
            answer,
            status=Status.REUSED,
            times=StageTimes(),
            generated_tokens=0,
            decode_passes=0,
            drafted_tokens=0,
            accepted_tokens=0,
        )

    def forget(self, camera: str) -> None:
        """Ask the engine next time."""
        self._known.pop(camera, None)
