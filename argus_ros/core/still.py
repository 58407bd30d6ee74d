"""The gate of recipe ``still_gate``: an unchanged scene gets its previous answer again."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from argus_ros.core.types import Answer, StageTimes, Status

SIDE = 32  #: of a thumbnail, pixels
#: Grey levels by which a pixel of the thumbnail may differ. An object of this pixel's size (20x15 in an image
#: of 640x480) that appears, disappears or moves is detected from four times this contrast on, at any place; a
#: sensor's noise is averaged, and stays below the threshold up to a standard deviation of about ten.
THRESHOLD = 8


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """The image reduced for comparison, (height, width, 3) uint8 to (SIDE, SIDE, 3) int16, by area."""
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)


@dataclass(frozen=True)
class Snapshot:
    """What the gate compares of a prepared frame."""

    view: np.ndarray  #: a ``thumbnail``
    question: Hashable  #: everything the answer depends on, apart from the picture
    level: int  #: budget level
    capture_time: float  #: steady seconds at which its age was zero


class StillGate:
    """Keeps each camera's last answer from the engine, with the thumbnail of its image.

    A new image is compared with that one instead of the previous image, so that slow motion is detected once
    it is large enough. After ``longest`` seconds the engine runs again in any case.
    """

    def __init__(self, longest: float = 1.0) -> None:
        self.longest = longest
        self._known: dict[str, tuple[Snapshot, Answer]] = {}

    def remember(self, camera: str, snapshot: Snapshot, answer: Answer) -> None:
        """Store the engine's answer; a truncated answer is not repeated."""
        if answer.status is Status.OK:
            self._known[camera] = (snapshot, answer)
        else:
            self.forget(camera)

    def recall(self, camera: str, snapshot: Snapshot) -> Answer | None:
        """The answer to repeat, marked REUSED; None where the engine has to run."""
        known, answer = self._known.get(camera, (None, None))
        if (
            known is None
            or answer is None
            or known.question != snapshot.question
            or known.level < snapshot.level
        ):
            return None
        if not 0.0 <= snapshot.capture_time - known.capture_time <= self.longest:
            return None
        if np.abs(known.view - snapshot.view).max() > THRESHOLD:
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
        """Drop the stored answer, so that the engine runs next."""
        self._known.pop(camera, None)
