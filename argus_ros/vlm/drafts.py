"""What a camera's next answer will probably be, from its last ones (recipe ``last_frame_draft``).

Each object of the last answer moves on as it moved before. The tokens of that are run in one pass, and are
taken as far as the model would have chosen them itself. From where it chose another one, the rest is proposed
anew, so that an object that is new, gone or elsewhere costs little. A draft never changes an answer.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from argus_ros.core import matching
from argus_ros.vlm.grammar import Grammar

#: Cameras that are remembered at once.
CAMERAS = 64
#: Seconds of silence after which a camera's last answer says nothing about its next one.
PAUSE = 3.0
#: Observations that an object's motion is fitted to; older ones fade.
OBSERVED = 5
#: Objects of one label are the same when they overlap so much from one answer to the next (IoU).
OVERLAP = 0.2
#: A box that starts farther from a proposed one than this, in bins, is another object.
NEAR = 8
#: How often a token is taken to be right before there is experience, and what each experience counts.
TRUST, LEARNING = 0.8, 0.1

#: Kinds of tokens, some of which are foreseen better than others: the four edges, and these.
WORD, END = 4, 5

Words = tuple[int, ...]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PassCost:
    """What the tokens of a draft cost beside the step that is due anyway, in such steps."""

    any: float  #: once, if there are any
    each: float


@dataclass(eq=False)
class _Thing:
    """An object of a camera: words as columns, edges in bins, motion in bins per unit of time."""

    words: Words
    box: np.ndarray
    motion: np.ndarray = field(default_factory=lambda: np.zeros(4))
    seen: int = 1

    def see(self, box: Box, expected: Box, elapsed: float) -> None:
        """Fit place and motion to one more observation (least squares, as a recursion)."""
        self.seen = n = min(self.seen + 1, OBSERVED)
        surprise = np.subtract(box, expected)
        self.box += surprise * (2 * (2 * n - 1) / (n * (n + 1)))
        self.motion += surprise / elapsed * (6 / (n * (n + 1)))


class Memories:
    """The memory of each camera, as long as it is asked the same of like pictures, and often."""

    def __init__(self) -> None:
        self._memories: dict[str, tuple[Hashable, float, Memory]] = {}

    def of(self, camera: str, question: Hashable) -> Memory:
        """The memory of a camera whose answers were to ``question``, or a new one."""
        now = time.monotonic()
        asked, used, memory = self._memories.pop(camera, (question, now, Memory()))
        if asked != question or now - used > PAUSE:
            memory = Memory()
        self._memories[camera] = question, now, memory  # the one used last stands last
        if len(self._memories) > CAMERAS:
            del self._memories[next(iter(self._memories))]
        return memory


class Memory:
    """One camera's last answers to one question."""

    def __init__(self) -> None:
        self.chances = [TRUST] * 6  #: that a proposed token is right, by kind
        self._things: list[_Thing] = []
        self._text: list[int] = []
        self._moment = 0.0
        self._elapsed = 1.0

    def draft(self, grammar: Grammar, moment: float | None) -> Draft:
        """A draft for the picture taken at ``moment`` (seconds; None: one after the last)."""
        if moment is None:
            moment = self._moment + 1
        self._elapsed, self._moment = max(moment - self._moment, 1e-3), moment
        for thing in self._things:
            thing.box += thing.motion * self._elapsed
        expected = [(thing.words, _bins(thing.box, grammar.bins)) for thing in self._things]
        return Draft(grammar, expected, self._text, self.chances)

    def learn(self, draft: Draft, truncated: bool) -> None:
        """Take the answer that ``draft`` has followed; one that was cut short says nothing of the rest."""
        known, bins = self._things, draft.grammar.bins
        self._text = [] if bins else draft.columns
        self._things = []
        for words, box in draft.found:
            same = [thing for thing in known if thing.words == words]
            expected = [_bins(thing.box, bins) for thing in same]
            overlaps = matching.iou([box], expected)[0] if same else np.zeros(1)
            best = int(overlaps.argmax())
            if overlaps[best] >= OVERLAP:
                thing = same[best]
                thing.see(box, expected[best], self._elapsed)
                known.remove(thing)
            else:
                thing = _Thing(words, np.array(box, float))
            self._things.append(thing)
        if truncated:
            self._things = (self._things + known)[: draft.grammar.max_objects]


class Draft:
    """Proposals for one answer, while it is generated."""

    def __init__(
        self,
        grammar: Grammar,
        expected: Sequence[tuple[Words, Box]],
        text: Sequence[int],
        chances: list[float],
    ) -> None:
        self.grammar = grammar
        self.drafted = self.accepted = 0
        self.columns: list[int] = []  #: the answer so far
        self.found: list[tuple[Words, Box]] = []  #: its complete objects
        self._expected, self._text, self._chances = list(expected), list(text), chances
        self._words: list[int] = []  # of the object under way
        self._box: list[int] = []
        self._guess: list[tuple[int, int]] = []  # columns and their kinds
        self._proposed = 0

    def propose(self, room: int, cost: PassCost) -> list[int]:
        """Columns, at most ``room``, that will probably come next: as many as are worth their cost."""
        self._guess, self._proposed = [], 0
        chance, gain, most = 1.0, -cost.any, 0.0
        for column, kind in islice(self._objects() if self.grammar.bins else self._same_text(), room):
            self._guess.append((column, kind))
            chance *= self._chances[kind]
            if chance <= cost.each:
                break
            gain += chance - cost.each
            if gain > most:
                most, self._proposed = gain, len(self._guess)
        self.drafted += self._proposed
        return [column for column, _ in self._guess[: self._proposed]]

    def follow(self, columns: Sequence[int]) -> None:
        """Take what the model has chosen since the last proposal."""
        for i, ((guess, kind), column) in enumerate(zip(self._guess, columns, strict=False)):
            self._chances[kind] += LEARNING * ((guess == column) - self._chances[kind])
            if guess != column:
                break
            self.accepted += i < self._proposed
        for column in columns:
            self._advance(column)

    def _advance(self, column: int) -> None:
        self.columns.append(column)
        if column >= self.grammar.bins + self.grammar.ends:
            self._words.append(column)
        elif column < self.grammar.bins:
            self._box.append(column)
        if len(self._box) == 4:
            if (current := self._current()) is not None:
                del self._expected[: current + 1]
            self.found.append((tuple(self._words), (self._box[0], self._box[1], self._box[2], self._box[3])))
            self._words, self._box = [], []

    def _current(self) -> int | None:
        """Which of the expected objects the one under way is."""
        words, box = tuple(self._words), self._box
        best, least = None, NEAR + 1
        for i, (expected, edges) in enumerate(self._expected):
            if expected == words if box else expected[: len(words)] == words:
                off = max((abs(a - b) for a, b in zip(box[:2], edges, strict=False)), default=0)
                if off < least:
                    best, least = i, off
        return best

    def _objects(self) -> Iterator[tuple[int, int]]:
        """The rest of the object under way, the objects that are still expected, and the end."""
        following = 0
        if self._words or self._box:
            current = self._current()
            if current is None:
                return
            words, box = self._expected[current]
            rest = [*((w, WORD) for w in words), *zip(self._moved(box), range(4), strict=True)]
            yield from rest[len(self._words) + len(self._box) :]
            following = current + 1
        for words, box in self._expected[following:]:
            yield from ((word, WORD) for word in words)
            yield from zip(box, range(4), strict=True)
        yield self.grammar.bins, END

    def _moved(self, box: Box) -> list[int]:
        """An expected box whose maxima are off by as much as its minima were."""
        seen, bins = self._box, self.grammar.bins
        moved = [*seen, *box[len(seen) :]]
        for i in range(max(len(seen), 2), 4):
            if len(seen) > i - 2 and box[i] < bins - 1:
                moved[i] += seen[i - 2] - box[i - 2]
        return moved

    def _same_text(self) -> Iterator[tuple[int, int]]:
        """Free text goes on like the last one while it is the same."""
        done = len(self.columns)
        if self._text[:done] == self.columns:
            yield from ((column, WORD) for column in self._text[done:])


def _bins(box: np.ndarray, bins: int) -> Box:
    """Edges as the grammar can say them."""
    low = box[:2].round().clip(0, bins - 2).astype(int)
    high = box[2:].round().astype(int).clip(low + 1, bins - 1)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
