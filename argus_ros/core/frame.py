"""Frames, the cameras they come from and the levels they run at: the records that the scheduler keeps."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

from argus_ros.core.types import Outcome


class PolicyError(ValueError):
    """A camera's policy that cannot work; says what would."""


@dataclass(frozen=True)
class CameraPolicy:
    """What one camera is promised. Raises PolicyError where a value makes no sense."""

    deadline: float = 0.2  #: most seconds of age at publication
    weight: float = 1.0  #: share of engine time under overload, relative to the other cameras
    rate_cap: float = 0.0  #: most frames per second to take up, on average; 0: all
    work: str = "run"  #: what the engine does for its frames; what costs alike is learnt together
    probed: bool = True  #: whether a frame that will be late is run now and then as a probe

    def __post_init__(self) -> None:
        for name in ("deadline", "weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise PolicyError(f"{name} is {value}; it has to be a number above 0")
        if not (math.isfinite(self.rate_cap) and self.rate_cap >= 0.0):
            raise PolicyError(f"rate_cap is {self.rate_cap}; it has to be 0 (no cap) or frames per second")


@dataclass(frozen=True)
class Level:
    """One rung of the budget ladder: what a frame may cost. The ladder goes from cheap to dear."""

    name: str = "full"
    max_tiles: int = 0  #: 0: as many as the picture asks for
    visual_tokens: int = 0  #: 0: as many as its tiles give
    max_detections: int = 0  #: 0: as many as the checkpoint allows


class State(enum.Enum):
    WAITING = enum.auto()
    PREPARING = enum.auto()
    PREPARED = enum.auto()
    RUNNING = enum.auto()
    ANSWERED = enum.auto()
    ENDED = enum.auto()


@dataclass(eq=False, slots=True)
class Frame:
    """A frame from arrival to outcome. Only the scheduler writes to it, except for ``payload``."""

    id: int
    camera: str
    capture_time: float  #: when the image's age was zero
    arrived: float
    deadline: float  #: latest time of publication
    payload: Any = None
    work: str = "run"  #: as in its camera's policy
    state: State = State.WAITING
    level: int = 0  #: index into the ladder, once selected for preparation
    probe: bool = False  #: predicted to be late, run to see whether the engine has recovered
    reason: str = ""  #: why it was selected, or how it ended
    prepare_started: float = 0.0
    run_started: float = 0.0
    virtual_cost: float = 0.0  #: seconds by which its camera's virtual time was advanced for it
    priority: float = 0.0  #: the lowest goes first: the deadline, or the virtual deadline under overload
    #: Outcome and reason with which it ends as soon as the worker or the engine is done with it.
    drop_outcome: tuple[Outcome, str] | None = None
    slow: bool = False  #: takes long to prepare: others are prepared beside it


@dataclass(frozen=True)
class Ended:
    """A frame that has ended, with its outcome and the reason."""

    frame: Frame
    outcome: Outcome
    reason: str


@dataclass(eq=False, slots=True)
class CameraState:
    """What the scheduler knows of one camera."""

    name: str
    policy: CameraPolicy
    waiting: Frame | None = None
    preparing: Frame | None = None
    prepared: Frame | None = None
    virtual_time: float = 0.0  #: engine seconds it has used while others wanted the engine, over its weight
    priority: float = 0.0  #: of its waiting frame, as last looked at
    level: int = 0  #: of its last frame
    period: float = 0.0  #: smoothed seconds between its frames
    offered: float = -math.inf  #: time of its last frame
    allowed: float = -math.inf  #: when the rate cap lets the next one in
    probe_at: float = -math.inf

    def quiet_after(self) -> float:
        """Seconds without a frame after which it asks for nothing."""
        return max(1.0, 3.0 * self.period)

    def rate(self, now: float) -> float:
        """Frames per second it asks for; 0 when it has gone quiet."""
        if not self.period or now - self.offered > self.quiet_after():
            return 0.0
        rate = 1.0 / self.period
        return min(rate, self.policy.rate_cap) if self.policy.rate_cap else rate

    def change(self, policy: CameraPolicy) -> None:
        """Take a new policy, also for the frame that waits."""
        self.policy = policy
        self.allowed = -math.inf
        if self.waiting:
            self.waiting.deadline = self.waiting.capture_time + policy.deadline

    def note_arrival(self, now: float) -> None:
        """Measure the time between frames, without pauses."""
        gap = now - self.offered
        self.offered = now
        if gap < math.inf:
            gap = min(gap, self.quiet_after())
            self.period = gap if not self.period else self.period + 0.1 * (gap - self.period)

    def admits(self, now: float) -> bool:
        """Whether the rate cap lets a frame in, which then uses up the permission."""
        if now < self.allowed - 1e-9:
            return False
        if self.policy.rate_cap:  # from the permission, not from now: the average is what is capped
            self.allowed = max(self.allowed + 1.0 / self.policy.rate_cap, now)
        return True

    def release(self, frame: Frame) -> None:
        """Let go of a frame that waits, is being prepared or is prepared."""
        if self.waiting is frame:
            self.waiting = None
        elif self.preparing is frame:
            self.preparing = None
        elif self.prepared is frame:
            self.prepared = None
