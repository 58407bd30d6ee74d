"""Records of the scheduler: frames, cameras and budget levels."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

from argus_ros.core.types import Outcome


class PolicyError(ValueError):
    """A camera's policy is invalid; the message says which values are valid."""


@dataclass(frozen=True)
class CameraPolicy:
    """Deadline and share of one camera. Raises PolicyError for an invalid value."""

    deadline: float = 0.2  #: maximum age at publication, seconds
    weight: float = 1.0  #: share of engine time under overload, relative to the other cameras
    rate_cap: float = 0.0  #: maximum frames per second accepted, on average; 0: no limit
    work: str = "run"  #: kind of work of its frames; latencies are learnt per kind
    probed: bool = True  #: whether a late frame is run now and then as a probe

    def __post_init__(self) -> None:
        for name in ("deadline", "weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise PolicyError(f"{name} is {value}; it has to be a number above 0")
        if not (math.isfinite(self.rate_cap) and self.rate_cap >= 0.0):
            raise PolicyError(f"rate_cap is {self.rate_cap}; it has to be 0 (no cap) or frames per second")


@dataclass(frozen=True)
class Level:
    """One level of the budget ladder: the maximum work for a frame."""

    name: str = "full"
    max_tiles: int = 0  #: 0: no limit
    visual_tokens: int = 0  #: 0: no limit
    max_detections: int = 0  #: 0: the checkpoint's limit


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
    capture_time: float  #: on the steady clock; ages count from here
    arrived: float
    deadline: float  #: latest time of publication
    payload: Any = None
    work: str = "run"  #: of its camera's policy
    state: State = State.WAITING
    level: int = 0  #: index into the ladder, once selected for preparation
    probe: bool = False  #: predicted to be late, run to see whether the engine has recovered
    reason: str = ""  #: why it was selected, or how it ended
    prepare_started: float = 0.0
    run_started: float = 0.0
    virtual_cost: float = 0.0  #: seconds by which its camera's virtual time was advanced for it
    priority: float = 0.0  #: the lowest goes first: the deadline, or the virtual deadline under overload
    #: Outcome and reason for the frame to end with as soon as the worker or the engine is done with it.
    drop_outcome: tuple[Outcome, str] | None = None
    slow: bool = False  #: preparation takes long: others are prepared at the same time


@dataclass(frozen=True)
class Ended:
    """A frame that has ended, with its outcome and the reason."""

    frame: Frame
    outcome: Outcome
    reason: str


@dataclass(eq=False, slots=True)
class CameraState:
    """The scheduler's state of one camera."""

    name: str
    policy: CameraPolicy
    waiting: Frame | None = None
    preparing: Frame | None = None
    prepared: Frame | None = None
    virtual_time: float = 0.0  #: engine seconds used under competition, divided by the weight
    priority: float = 0.0  #: of its waiting frame, at the last selection
    level: int = 0  #: of its last frame
    period: float = 0.0  #: smoothed seconds between its frames
    offered: float = -math.inf  #: arrival of its last frame
    allowed: float = -math.inf  #: when the rate cap admits the next frame
    probe_at: float = -math.inf

    def idle_after(self) -> float:
        """Seconds without a frame after which the camera counts as idle."""
        return max(1.0, 3.0 * self.period)

    def rate(self, now: float) -> float:
        """Frames per second that the camera offers, up to its cap; 0 when idle."""
        if not self.period or now - self.offered > self.idle_after():
            return 0.0
        rate = 1.0 / self.period
        return min(rate, self.policy.rate_cap) if self.policy.rate_cap else rate

    def change(self, policy: CameraPolicy) -> None:
        """Apply a new policy, also to the waiting frame."""
        self.policy = policy
        self.allowed = -math.inf
        if self.waiting:
            self.waiting.deadline = self.waiting.capture_time + policy.deadline

    def note_arrival(self, now: float) -> None:
        """Measure the time between frames, without pauses."""
        gap = now - self.offered
        self.offered = now
        if gap < math.inf:
            gap = min(gap, self.idle_after())
            self.period = gap if not self.period else self.period + 0.1 * (gap - self.period)

    def admits(self, now: float) -> bool:
        """Whether the rate cap admits a frame; if so, the frame counts towards the cap."""
        if now < self.allowed - 1e-9:
            return False
        if self.policy.rate_cap:  # not from now: the cap is on the average rate
            self.allowed = max(self.allowed + 1.0 / self.policy.rate_cap, now)
        return True

    def release(self, frame: Frame) -> None:
        """Remove a frame that is waiting, being prepared or prepared."""
        if self.waiting is frame:
            self.waiting = None
        elif self.preparing is frame:
            self.preparing = None
        elif self.prepared is frame:
            self.prepared = None
