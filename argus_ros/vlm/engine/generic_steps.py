"""Hooks into transformers' ``generate``: the grammar of an answer, token probabilities and the deadline."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from argus_ros.vlm.decoding.generation import FLOOR, Stopwatch, is_sound
from argus_ros.vlm.formats.reading import Constraint


class Steps(LogitsProcessor):
    """Restricts each step to a constraint's tokens. With ``scored``, keeps their probabilities."""

    def __init__(self, constraint: Constraint | None, before: int, watch: Stopwatch, *, scored: bool) -> None:
        self._constraint, self._before, self._watch, self._scored = constraint, before, watch, scored
        self.probabilities: list[float] = []
        self.sound = True  #: until a step has no finite logit
        self._last: Tensor | None = None
        self._columns = None if constraint is None else torch.from_numpy(constraint.tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._watch.mark("prefill")
        self._watch.mark("first_token")
        self.follow(input_ids)
        self.sound &= is_sound(float(scores[0].max()))
        if self._constraint is not None and self._columns is not None:
            columns = self._columns.to(scores.device)
            allowed = torch.from_numpy(self._constraint.allowed()).to(scores.device)
            row = scores[0, columns].float().clamp(min=float(FLOOR))
            masked = torch.full_like(scores, -torch.inf, dtype=torch.float32)
            masked[0, columns] = torch.where(allowed, row, -torch.inf)
            scores = masked
        self._last = scores[0].float() if self._scored else None
        return scores

    def follow(self, ids: Tensor) -> None:
        """Add the tokens chosen since the last call; ``ids`` is (1, prompt and answer)."""
        new = ids[0, self._before + len(self.probabilities) :].tolist()
        for token in new:
            self.probabilities.append(self._probability(token))
            if self._constraint is not None and not self._constraint.done:
                self._constraint.advance(self._constraint.column[token])

    def _probability(self, token: int) -> float:
        if self._last is None:
            return 0.0
        shifted = self._last - self._last.max()
        found = float((shifted[token].double() - shifted.double().exp().sum().log()).exp())
        return min(max(found, 0.0), 1.0) if np.isfinite(found) else 0.0


class Stop(StoppingCriteria):
    """Ends generation at the deadline (steady clock), and where a step had no finite logit."""

    def __init__(self, steps: Steps, deadline: float | None) -> None:
        self._steps, self._deadline = steps, deadline

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return torch.full((len(input_ids),), late or not self._steps.sound, device=input_ids.device)
