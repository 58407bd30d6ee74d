"""Types that all layers share: tasks, detections, answers and outcomes of frames.

Lengths are pixels of the source image, durations seconds on the steady clock
(``time.monotonic``), stamps integer nanoseconds on the node's ROS clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

#: Tasks whose answer is decoded under a grammar and has boxes.
STRUCTURED_TASKS = ("detect", "ground", "dense_caption")
#: Every task a checkpoint may support; the others answer in free text.
TASKS = (*STRUCTURED_TASKS, "caption", "ask")


class Status(enum.IntEnum):
    """State of an answer; the values of ``DetectionArray.status``."""

    OK = 0
    TRUNCATED = 1  #: stopped at the deadline or the token limit; its objects are complete and valid
    REUSED = 2  #: the still gate repeated an earlier answer
    LATE = 3  #: older than its deadline; published only when ``publish_late`` is set


class Outcome(enum.IntEnum):
    """How a frame ended; the values of ``FrameTiming.outcome``."""

    PUBLISHED = 0
    SUPERSEDED = 1  #: a newer frame of its camera took its place before it ran
    STALE = 2  #: it could not meet its deadline, and was not run
    RATE_LIMITED = 3
    UNDECODABLE = 4
    WITHHELD = 5  #: it ran, was late, and was not published
    ENGINE_DOWN = 6
    DISABLED = 7  #: the node was paused, see ``Pipeline.set_enabled``


@dataclass(frozen=True)
class Task:
    """The question about an image."""

    name: str = "detect"
    classes: tuple[str, ...] = ()  #: ``detect``: object classes; empty means all that the model knows
    prompt: str = ""  #: ``ground``: the phrase; ``ask``: the question


@dataclass(frozen=True)
class Detection:
    """One object: a box in pixels of the source image, ``x_min < x_max``, ``y_min < y_max``."""

    label: str
    score: float  #: in [0, 1]
    x_min: float
    y_min: float
    x_max: float
    y_max: float
    description: str = ""
    track_id: str = ""


@dataclass(frozen=True)
class StageTimes:
    """Seconds a frame spent in each stage; zero where a stage did not run."""

    wait: float = 0.0  #: arrival to start of preparation
    prepare: float = 0.0  #: decode, resize and tile on the host
    transfer: float = 0.0  #: tiles to the device
    vision: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    publish: float = 0.0
    first_token: float = 0.0  #: engine start to first generated token (TTFT)
    total: float = 0.0  #: arrival to publication


@dataclass(frozen=True)
class Answer:
    """The engine's answer for one frame."""

    detections: tuple[Detection, ...] = ()
    text: str = ""
    status: Status = Status.OK
    times: StageTimes = field(default_factory=StageTimes)
    visual_tokens: int = 0
    generated_tokens: int = 0
    decode_passes: int = 0  #: forward passes after prefill
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    dropped: int = 0  #: invalid boxes of an open model: incomplete, empty, outside, not requested
