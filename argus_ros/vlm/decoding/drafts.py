"""Drafts a camera's next answer from its last one (recipe ``last_frame_draft``).

Each object of the last answer is predicted to stay, or to move on as before: for each edge, the prediction
that has been right more often for this camera. The drafted tokens run in one pass, and are accepted as long
as the model would have chosen them itself. After a different choice, the rest is drafted again: first the
nearest object, then those not yet in the answer. So an object that is new, gone, renamed or slightly off
costs little. For a box that has begun, a head of the checkpoint can also predict the rest (recipe
``box_draft``): it competes with the last answer edge by edge. After the last known object follows the label
that is the most frequent in this answer. It is right about once in six times, which pays where a further
token in a pass is nearly free. A draft never changes an answer, and never contains its end: the pass that
runs the token before the end chooses the end.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from argus_ros.vlm.formats.grammar import Grammar

#: Maximum number of cameras remembered.
CAMERAS = 64
#: A last answer older than this, in seconds, is not used.
PAUSE = 3.0
#: Observations to which an object's motion is fitted; older ones fade.
OBSERVED = 4
#: An object with an edge farther than this from the expected one, in bins, is another object.
NEAR = 16
#: Distance, in bins, of objects with different words.
RENAMED = 6
#: Initial probability that a token is right, and that the label of a further object is; and the weight of
#: each observation.
TRUST, TRUST_IN_LABEL, LEARNING = 0.8, 0.2, 0.05

#: Kinds of proposals, each with its own probability: an edge that stays (from 0 on: the four edges), an edge
#: that moves on (from 4 on), the words of a known object, the label of a further object, and the edges from
#: the head for whole boxes (from 10 on).
STAYS, MOVES, WORD, LABEL, SAID = 0, 4, 8, 9, 10
KINDS = 14

Words = tuple[int, ...]
Box = tuple[int, int, int, int]
Guess = tuple[int, int]  #: a column and its kind of proposal


@dataclass(frozen=True)
class PassCost:
    """The cost of a draft's tokens in addition to the next step, as a part of a step."""

    any: float  #: once for the first token
    each: float


@dataclass(eq=False)
class _Known:
    """An object of a camera: words as columns, edges in bins, motion in bins per unit of time."""

    words: Words
    stays: Box  #: in the last answer
    place: np.ndarray = field(init=False)  # as fitted
    motion: np.ndarray = field(default_factory=lambda: np.zeros(4))
    seen: int = 1
    moves: Box = field(init=False)  #: expected by its motion
    likely: Box = field(init=False)  #: the more probable edge of the two, by past success

    def __post_init__(self) -> None:
        self.place = np.array(self.stays, float)

    def expect(self, elapsed: float, bins: int, chances: Sequence[float]) -> None:
        self.place += self.motion * elapsed
        self.moves = _bins(self.place, bins)
        moving = np.greater_equal(chances[MOVES : MOVES + 4], chances[STAYS : STAYS + 4])
        self.likely = _bins(np.where(moving, self.moves, self.stays), bins)

    def off(self, box: Sequence[int]) -> int:
        """The largest distance of an object's first edges from the expected ones."""
        return max((abs(a - b) for a, b in zip(box, self.likely, strict=False)), default=0)

    def see(self, words: Words, box: Box, elapsed: float) -> None:
        """Fit position and motion to one more observation (recursive least squares)."""
        self.words, self.stays = words, box
        self.seen = n = min(self.seen + 1, OBSERVED)
        surprise = box - self.place
        self.place += surprise * (2 * (2 * n - 1) / (n * (n + 1)))
        self.motion += surprise / elapsed * (6 / (n * (n + 1)))


def first_chances() -> list[float]:
    """The probability that a proposal is right before any was tried, by kind."""
    return [TRUST_IN_LABEL if kind == LABEL else TRUST for kind in range(KINDS)]


def _nearest(known: Sequence[_Known], words: Words, box: Sequence[int]) -> _Known | None:
    """The object that begins with these words and edges; None where there is none."""

    def unlike(one: _Known) -> float:
        same = one.words == words if box else one.words[: len(words)] == words
        return one.off(box) + (0 if same else RENAMED)

    best = min(known, key=unlike, default=None)
    return best if best and best.off(box) <= NEAR else None


class Memories:
    """The memory of each camera, kept while its question and picture size stay and answers are recent."""

    def __init__(self) -> None:
        self._memories: dict[str, tuple[Hashable, Memory]] = {}

    def __len__(self) -> int:
        return len(self._memories)

    def of(self, camera: str, question: Hashable, moment: float | None = None) -> Memory:
        """The memory of a camera's answers to ``question``; a new one where the old one does not apply."""
        asked, memory = self._memories.pop(camera, (question, Memory()))
        if asked != question or memory.is_stale(moment):
            memory = Memory()
        self._memories[camera] = question, memory  # the last used one is last
        if len(self._memories) > CAMERAS:
            del self._memories[next(iter(self._memories))]
        return memory


class Memory:
    """One camera's last answer to one question, with the motion of its objects."""

    def __init__(self) -> None:
        self.chances = first_chances()  #: probability that a proposal is right, by kind
        self._known: list[_Known] = []
        self._text: list[int] = []
        self._moment: float | None = None
        self._elapsed = 1.0

    def is_stale(self, moment: float | None) -> bool:
        """Whether the last picture is too old at ``moment``, or newer than it."""
        if moment is None or self._moment is None:
            return False
        return not 0.0 <= moment - self._moment <= PAUSE

    def draft(self, grammar: Grammar, moment: float | None) -> Draft:
        """A draft for the picture taken at ``moment`` (seconds; None: one after the last)."""
        last = 0.0 if self._moment is None else self._moment
        self._moment = last + 1.0 if moment is None else moment
        self._elapsed = max(self._moment - last, 1e-3)
        for one in self._known:
            one.expect(self._elapsed, grammar.bins, self.chances)
        return Draft(grammar, self._known, self._text, self.chances)

    def learn(self, draft: Draft, truncated: bool) -> None:
        """Learn from the answer that ``draft`` has followed; a truncated one shows nothing of the rest."""
        known, self._known = self._known, []
        ends = draft.grammar.ends
        self._text = [] if draft.grammar.bins else [column for column in draft.columns if column >= ends]
        for words, box in draft.found:
            if one := _nearest(known, words, box):
                one.see(words, box, self._elapsed)
                known.remove(one)
            self._known.append(one or _Known(words, box))
        if truncated:
            self._known = (self._known + known)[: draft.grammar.max_objects]


class Draft:
    """Proposals for one answer during its generation."""

    def __init__(
        self, grammar: Grammar, expected: Sequence[_Known], text: Sequence[int], chances: list[float]
    ) -> None:
        self.grammar = grammar
        self.drafted = self.accepted = 0
        self.columns: list[int] = []  #: the answer so far
        self.found: list[tuple[Words, Box]] = []  #: its complete objects
        self._expected, self._text, self._chances = list(expected), list(text), chances
        self._words: list[int] = []  # of the current object
        self._box: list[int] = []
        self._said: list[int] = []  # of the current box, from the head for whole boxes
        self._guesses: list[Sequence[Guess]] = []  # for each position in the answer, the proposed one first
        self._proposed = 0

    def propose(self, room: int, cost: PassCost) -> list[int]:
        """The most probable next columns, ``room`` at most: as many as are worth their cost."""
        self._guesses, self._proposed = [], 0
        chance, gain, most = 1.0, -cost.any, 0.0
        for guesses in islice(self._objects() if self.grammar.bins else self._same_text(), room):
            self._guesses.append(guesses)
            chance *= self._chances[guesses[0][1]]
            if chance <= cost.each:
                break
            gain += chance - cost.each
            if gain > most:
                most, self._proposed = gain, len(self._guesses)
        self.drafted += self._proposed
        return [guesses[0][0] for guesses in self._guesses[: self._proposed]]

    def follow(self, columns: Sequence[int]) -> None:
        """Update with the columns that the model has chosen since the last proposal."""
        for i, (guesses, column) in enumerate(zip(self._guesses, columns, strict=False)):
            for guess, kind in guesses:
                self._chances[kind] += LEARNING * ((guess == column) - self._chances[kind])
            if guesses[0][0] != column:
                break
            self.accepted += i < self._proposed
        for column in columns:
            self._advance(column)

    def add_box(self, box: list[int]) -> None:
        """Add the prediction (4 bins) of the head for whole boxes, for the box that has just begun."""
        self._said = box

    def _advance(self, column: int) -> None:
        self.columns.append(column)
        if column >= self.grammar.bins + self.grammar.ends:
            self._words.append(column)
        elif column < self.grammar.bins:
            self._box.append(column)
        if len(self._box) == 4:
            words, box = tuple(self._words), (self._box[0], self._box[1], self._box[2], self._box[3])
            if one := _nearest(self._expected, words, box):
                self._expected.remove(one)
            self.found.append((words, box))
            self._words, self._box, self._said = [], [], []

    def _objects(self) -> Iterator[Sequence[Guess]]:
        """The rest of the current object, the objects not yet in the answer, and one more label."""
        current = None
        if self._words or self._box:
            current = _nearest(self._expected, tuple(self._words), self._box)
            yield from self._rest(current, len(self._words), self._box)
            if not (current or self._said):
                return  # no proposal for the box of a new object
        for one in self._expected:
            if one is not current:
                yield from self._rest(one, 0, ())
        labels = [words for words, _ in self.found] + [one.words for one in self._expected]
        if self._box and current is None:
            labels.append(tuple(self._words))
        for word in max(labels, key=labels.count, default=()):
            yield ((word, LABEL),)

    def _rest(self, one: _Known | None, words: int, begun: Sequence[int]) -> Iterator[Sequence[Guess]]:
        """The rest of an object, of which this number of words and these edges are known.

        For an object that the last answer did not have, only the head for whole boxes gives a proposal.
        """
        said = self._said if begun else []
        if not (one or said):
            return
        if one and not begun:
            yield from (((word, WORD),) for word in one.words[words:])
        box = list(begun)
        for i in range(len(box), 4):
            least = box[i - 2] + 1 if i > 1 else 0
            guesses = [(one.moves[i], MOVES + i), (one.stays[i], STAYS + i)] if one else []
            guesses += [(said[i], SAID + i)] if said else []
            guesses.sort(key=lambda guess: -self._chances[guess[1]])
            box.append(max(guesses[0][0], least))
            yield [(max(place, least), kind) for place, kind in guesses]

    def _same_text(self) -> Iterator[Sequence[Guess]]:
        """Free text continues like the last one while it is the same."""
        done = len(self.columns)
        if self._text[:done] == self.columns:
            yield from (((column, WORD),) for column in self._text[done:])


def _bins(box: np.ndarray, bins: int) -> Box:
    """Edges as valid bins of the grammar."""
    low = box[:2].round().clip(0, bins - 2).astype(int)
    high = box[2:].round().astype(int).clip(low + 1, bins - 1)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
