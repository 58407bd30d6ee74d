"""A backend's input and output, the state of one answer during generation, and the timing of stages."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from argus_ros.core.types import StageTimes
from argus_ros.vlm.decoding.drafts import Draft, PassCost
from argus_ros.vlm.formats.grammar import Y_MIN, Cursor, Grammar
from argus_ros.vlm.formats.tokens import Prompt

#: Lower limit of allowed logits, above the forbidden ones' -inf for any weights.
FLOOR = np.float32(-1e30)


def is_sound(best: float) -> bool:
    """Whether the best logit of a step is a number that a working model gives: no NaN, infinity or floor."""
    return bool(FLOOR < best < np.inf)


@dataclass(frozen=True)
class Limits:
    """Limits of generation, in addition to the end of the answer."""

    max_tokens: int
    max_objects: int = 0  #: 0: the grammar's limit
    deadline: float | None = None  #: steady clock


@dataclass(frozen=True)
class Frame:
    """A picture from which the device cuts the tiles (recipe ``device_resize``)."""

    pixels: np.ndarray  #: (height, width, 3) uint8 RGB
    rows: int  #: of the grid; 0 when there is only the global tile
    columns: int

    def __len__(self) -> int:
        """The number of tiles."""
        return self.rows * self.columns + 1


@dataclass(frozen=True)
class Job:
    """The work of a model for one frame."""

    prompt: Prompt
    grammar: Grammar
    tiles: np.ndarray | Frame  #: (tiles, side, side, 3) uint8 RGB; a frame needs ``device_resize``
    limits: Limits
    draft: Draft | None = None  #: updated with the answer; a backend may use it, without changing the answer
    logits: bool = True  #: whether to keep logits: in free text they have the whole vocabulary per token


@dataclass(frozen=True)
class Generated:
    """A model's output for one frame."""

    columns: list[int]  #: of the grammar, with the one that ends the answer
    logits: np.ndarray  #: (steps, columns) float32, forbidden ones -inf; (0, columns) where not kept
    probabilities: list[float]  #: of each column among those that were allowed
    truncated: bool
    times: StageTimes  #: of the whole batch, up to the end of this answer
    passes: int  #: forward passes after prefill
    visual_tokens: int
    drafted: int = 0  #: tokens proposed, and how many of these were chosen
    accepted: int = 0
    sound: bool = True  #: False: a choice had no finite logit, and generation stopped there


class Model(Protocol):
    """A backend."""

    parameters: int
    device: torch.device

    def generate_all(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Generated]]:
        """Answer frames; yields each with its index once it is done."""

    def generate(
        self,
        prompt: Prompt,
        grammar: Grammar,
        tiles: np.ndarray | Frame,
        limits: Limits,
        draft: Draft | None = None,
        logits: bool = True,
    ) -> Generated:
        """Answer one frame."""
        ((_, made),) = self.generate_all([Job(prompt, grammar, tiles, limits, draft, logits)])
        return made

    def free(self) -> None:
        """Free the memory of everything that can be computed again."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@np.errstate(all="ignore")
def probability(logits: np.ndarray, column: int) -> float:
    """The softmax probability of ``column``, the best one, from masked logits (columns,)."""
    best = logits[column]
    if np.isinf(best):
        return 1.0 / int((logits == best).sum())
    return float(1.0 / np.exp(logits - best).sum(dtype=np.float64))


class Decoding:
    """The state of one answer during generation: the tokens chosen, and those to run next.

    ``pending`` columns are chosen and have not run yet. ``guess`` is the draft behind them.
    """

    def __init__(self, job: Job, row: int, jump: bool) -> None:
        self.job, self.grammar, self.row = job, job.grammar, row
        self.cursor = Cursor(job.grammar, job.limits.max_objects)
        self.columns: list[int] = []
        self.rows: list[np.ndarray] = []  #: logits of each choice, where kept
        self.probabilities: list[float] = []  #: of each choice, where logits are not kept
        self.length = 0  #: tokens of the sequence that have run
        self.pending: list[int] = []
        self.guess: list[int] = []
        self.hidden: Any = None  #: hidden states (1 + guess, width) of the last choices
        self.chosen_by = 0  #: index in ``hidden`` of the last choice
        self.begins_box = False  #: whether the last choice begins a box
        self.passes = 0
        self.ended = self.truncated = False
        self.sound = True  #: until a choice has no finite logit
        self._jump = jump

    @property
    def tokens(self) -> np.ndarray:
        """Ids of the tokens to run next, (pending + guess,)."""
        return self.grammar.tokens[np.array(self.pending + self.guess, int)]

    def propose(self, cost: PassCost) -> None:
        """Draft the next tokens, as far as they are worth their ``cost``."""
        room = self.job.limits.max_tokens - len(self.columns) - 1
        self.guess = self.job.draft.propose(room, cost) if self.job.draft else []

    @np.errstate(all="ignore")
    def take(self, logits: np.ndarray) -> None:
        """Choose by (1 + guess, columns) logits: of the last chosen token, and of the guess.

        The guess is accepted as long as the model makes the same choice. One more choice follows it.
        """
        first = len(self.columns)
        for at, (raw, expected) in enumerate(zip(logits, [*self.guess, -1], strict=True)):
            self.chosen_by = at
            row = np.where(self.cursor.allowed(), np.maximum(raw, FLOOR), -np.inf).astype(np.float32)
            self.add(int(row.argmax()), row)
            if self.columns[-1] != expected or self._has_to_end():
                break
        self.length += len(self.pending) + len(self.columns) - first - 1
        self.pending = self.columns[-1:]
        self.begins_box = self.cursor.state == Y_MIN
        while self._jump and not self._has_to_end() and (forced := self.cursor.forced()) >= 0:
            self.add(forced)
            self.pending.append(forced)
        self.check_end(self.columns[first:])

    def accept(self, chosen: np.ndarray, logits: np.ndarray) -> None:
        """Add the device's choices: columns (steps, n) padded with -1; logits (steps, columns).

        A step ran the pending columns, chose one column by its logits, and added those that the grammar
        forces.
        """
        most, first = self.job.limits.max_tokens, len(self.columns)
        for columns, row in zip(chosen.tolist(), logits, strict=True):
            if self._has_to_end():
                break
            self.length += len(self.pending)
            self.passes += 1
            self.pending = []
            for column in columns[: most - len(self.columns)]:
                if column < 0:
                    break
                self.add(column, None if self.pending else row)
                self.pending.append(column)
        self.check_end(self.columns[first:])

    def add(self, column: int, logits: np.ndarray | None = None) -> None:
        """Take a column that was chosen by masked logits, or without any one that was forced."""
        if logits is not None and not is_sound(logits[column]):
            self.sound = False
        if self.job.logits:
            if logits is None:
                logits = np.full(len(self.grammar.tokens), -np.inf, np.float32)
                logits[column] = 0
            self.rows.append(logits)
        else:
            self.probabilities.append(1.0 if logits is None else probability(logits, column))
        self.columns.append(column)
        self.cursor.advance(column)

    def _has_to_end(self) -> bool:
        """Whether no column may follow."""
        return not self.sound or self.cursor.done or len(self.columns) == self.job.limits.max_tokens

    def check_end(self, new: list[int]) -> None:
        """Whether the answer ends here."""
        if not self.sound:
            self.ended = True
            return
        limits = self.job.limits
        if self.job.draft:
            self.job.draft.follow(new)
        late = limits.deadline is not None and time.monotonic() >= limits.deadline
        self.truncated = not self.cursor.done and (late or len(self.columns) >= limits.max_tokens)
        self.ended = self.cursor.done or self.truncated

    def generated(self, times: StageTimes, visual_tokens: int) -> Generated:
        draft = self.job.draft
        logits = np.array(self.rows, np.float32).reshape(-1, len(self.grammar.tokens))
        kept = map(probability, logits, self.columns)
        return Generated(
            columns=self.columns,
            logits=logits,
            probabilities=list(kept) if self.job.logits else self.probabilities,
            truncated=self.truncated,
            times=times,
            passes=self.passes,
            visual_tokens=visual_tokens,
            drafted=draft.drafted if draft else 0,
            accepted=draft.accepted if draft else 0,
            sound=self.sound,
        )


class Stopwatch:
    """Times of the stages. Uses the device's own clock where possible, which needs no synchronisation."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self._marks: dict[str, float | torch.cuda.Event] = {}
        self._started = time.monotonic()
        self.mark("start")

    def mark(self, name: str) -> None:
        """Set the end of stage ``name`` to now, at the first call."""
        if name in self._marks:
            return
        if self._stream:
            event = torch.cuda.Event(enable_timing=True)
            event.record(self._stream)
            self._marks[name] = event
        else:
            self._marks[name] = time.monotonic()

    def _between(self, start: str, end: str) -> float:
        a, b = self._marks[start], self._marks[end]
        if isinstance(a, torch.cuda.Event) and isinstance(b, torch.cuda.Event):
            b.synchronize()
            return a.elapsed_time(b) / 1e3
        return float(b) - float(a)  # type: ignore[arg-type]

    def times(self) -> StageTimes:
        """All stages up to now, after the host has read the end of an answer from the device."""
        names = ("transfer", "vision", "prefill")
        stages = dict(zip(names, map(self._between, ("start", *names), names), strict=False))
        decode = time.monotonic() - self._started - sum(stages.values())
        return StageTimes(first_token=self._between("start", "first_token"), decode=decode, **stages)
