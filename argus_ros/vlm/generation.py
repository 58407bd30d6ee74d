"""What a backend takes and returns, and how its stages are timed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from argus_ros.core.types import StageTimes
from argus_ros.vlm.drafts import Draft
from argus_ros.vlm.grammar import Grammar
from argus_ros.vlm.tokens import Prompt

#: Allowed logits are at least this, above the forbidden ones' -inf whatever the weights give.
FLOOR = np.float32(-1e30)


@dataclass(frozen=True)
class Limits:
    """Where generation stops, beside the end of the answer."""

    max_tokens: int
    max_objects: int = 0  #: 0: as many as the grammar allows
    deadline: float | None = None  #: steady clock


@dataclass(frozen=True)
class Generated:
    """What a model generated for one frame."""

    columns: list[int]  #: of the grammar; the ending one included
    logits: np.ndarray  #: (steps, columns) float32, forbidden ones -inf
    truncated: bool
    times: StageTimes
    passes: int  #: forward passes after prefill
    visual_tokens: int
    drafted: int = 0  #: tokens that were proposed, and of these the ones that were chosen
    accepted: int = 0


@dataclass(frozen=True)
class Frame:
    """A picture of which the device cuts the tiles (recipe ``device_resize``)."""

    pixels: np.ndarray  #: (height, width, 3) uint8 RGB
    rows: int  #: of the grid; 0 when there is only the global tile
    columns: int


class Model(Protocol):
    """A backend."""

    parameters: int
    device: torch.device

    def generate(
        self,
        prompt: Prompt,
        grammar: Grammar,
        tiles: np.ndarray | Frame,
        limits: Limits,
        draft: Draft | None = None,
    ) -> Generated:
        """Answer one frame. A ``draft`` is followed; a backend may use it, and chooses the same without.

        Only backends that have ``device_resize`` are given a ``Frame`` in place of its tiles.
        """


class Stopwatch:
    """Times of the stages, on the device's own clock where it has one, so that timing waits for nothing."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: dict[str, float | torch.cuda.Event] = {}
        self.mark("start")

    def mark(self, name: str) -> None:
        """Now is the end of stage ``name``."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks[name] = event
        else:
            self._marks[name] = time.monotonic()

    def _between(self, start: str, end: str) -> float:
        a, b = self._marks[start], self._marks[end]
        if isinstance(a, torch.cuda.Event) and isinstance(b, torch.cuda.Event):
            return a.elapsed_time(b) / 1e3
        return float(b) - float(a)  # type: ignore[arg-type]

    def times(self) -> StageTimes:
        """All stages; call it when the device has finished."""
        names = ("transfer", "vision", "prefill", "decode")
        stages = dict(zip(names, map(self._between, ("start", *names), names), strict=False))
        return StageTimes(first_token=self._between("start", "first_token"), **stages)
