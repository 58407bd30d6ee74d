"""What a camera's next answer will probably be, from its last one (recipe ``last_frame_draft``).

Each object of the last answer stays where it was or moves on as it moved before: for each edge whichever has
been right more often with this camera. The tokens of that are run in one pass, and are taken as far as the
model would have chosen them itself. From where it chose another one, the rest is proposed anew: of the
nearest object, then of those not met yet. So an object that is new, gone, renamed or a little off costs
little. Of a box that has begun, a head of the checkpoint may say the rest as well (recipe ``box_draft``):
that competes with the last answer edge by edge. A draft never changes an answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from argus_ros.vlm.grammar import Grammar

#: Cameras that are remembered at once.
CAMERAS = 64
#: Seconds between two pictures from which on the one's answer says nothing about the other's.
PAUSE = 3.0
#: Observations that an object's motion is fitted to; older ones fade.
OBSERVED = 4
#: An object with an edge farther from where it was expected than this, in bins, is another one.
NEAR = 16
#: Other words make an object as unlike as this many bins.
RENAMED = 6
#: How often a token is taken to be right before there is experience, and what each experience counts.
TRUST, LEARNING = 0.8, 0.05

#: Kinds of proposals, some of which are right more often than others: that an edge stays (from 0 on: the four
#: edges), that it moves on (from 4 on), the words, that the answer ends, and what a head for whole boxes says
#: of the edges (from 10 on).
STAYS, MOVES, WORD, END, SAID = 0, 4, 8, 9, 10
KINDS = 14

Words = tuple[int, ...]
Box = tuple[int, int, int, int]
Guess = tuple[int, int]  #: a column and the kind of proposal that says so


@dataclass(frozen=True)
class PassCost:
    """What the tokens of a draft cost beside the step that is due anyway, in such steps."""

    any: float  #: once, if there are any
    each: float


@dataclass(eq=False)
class _Thing:
    """An object of a camera: words as columns, edges in bins, motion in bins per unit of time."""

    words: Words
    stays: Box  #: as last seen
    place: np.ndarray = field(init=False)  # as fitted
    motion: np.ndarray = field(default_factory=lambda: np.zeros(4))
    seen: int = 1
    moves: Box = field(init=False)  #: where it should be by now
    likely: Box = field(init=False)  #: by experience with the camera, some edges of this and some of that

    def __post_init__(self) -> None:
        self.place = np.array(self.stays, float)

    def expect(self, elapsed: float, bins: int, chances: Sequence[float]) -> None:
        self.place += self.motion * elapsed
        self.moves = _bins(self.place, bins)
        moving = np.greater_equal(chances[MOVES : MOVES + 4], chances[STAYS : STAYS + 4])
        self.likely = _bins(np.where(moving, self.moves, self.stays), bins)

    def off(self, box: Sequence[int]) -> int:
        """How far the first edges of an object are from the expected ones, at most."""
        return max((abs(a - b) for a, b in zip(box, self.likely, strict=False)), default=0)

    def see(self, words: Words, box: Box, elapsed: float) -> None:
        """Fit place and motion to one more observation (least squares, as a recursion)."""
        self.words, self.stays = words, box
        self.seen = n = min(self.seen + 1, OBSERVED)
        surprise = box - self.place
        self.place += surprise * (2 * (2 * n - 1) / (n * (n + 1)))
        self.motion += surprise / elapsed * (6 / (n * (n + 1)))


def _nearest(things: Sequence[_Thing], words: Words, box: Sequence[int]) -> _Thing | None:
    """Which of some objects the one is that begins with these words and edges."""

    def unlike(thing: _Thing) -> float:
        same = thing.words == words if box else thing.words[: len(words)] == words
        return thing.off(box) + (0 if same else RENAMED)

    best = min(things, key=unlike, default=None)
    return best if best and best.off(box) <= NEAR else None


class Memories:
    """The memory of each camera, as long as it is asked the same of like pictures, and often."""

    def __init__(self) -> None:
        self._memories: dict[str, tuple[Hashable, Memory]] = {}

    def __len__(self) -> int:
        return len(self._memories)

    def of(self, camera: str, question: Hashable, moment: float | None = None) -> Memory:
        """The memory of a camera whose answers were to ``question``, or a new one for a new beginning."""
        asked, memory = self._memories.pop(camera, (question, Memory()))
        if asked != question or memory.is_stale(moment):
            memory = Memory()
        self._memories[camera] = question, memory  # the one used last stands last
        if len(self._memories) > CAMERAS:
            del self._memories[next(iter(self._memories))]
        return memory


class Memory:
    """One camera's last answer to one question, and how it came to be."""

    def __init__(self) -> None:
        self.chances = [TRUST] * KINDS  #: that a proposal is right, by kind
        self._things: list[_Thing] = []
        self._text: list[int] = []
        self._moment: float | None = None
        self._elapsed = 1.0

    def is_stale(self, moment: float | None) -> bool:
        """Whether the last picture is too long ago at ``moment`` to say anything, or yet to come."""
        if moment is None or self._moment is None:
            return False
        return not 0.0 <= moment - self._moment <= PAUSE

    def draft(self, grammar: Grammar, moment: float | None) -> Draft:
        """A draft for the picture taken at ``moment`` (seconds; None: one after the last)."""
        last = 0.0 if self._moment is None else self._moment
        self._moment = last + 1.0 if moment is None else moment
        self._elapsed = max(self._moment - last, 1e-3)
        for thing in self._things:
            thing.expect(self._elapsed, grammar.bins, self.chances)
        return Draft(grammar, self._things, self._text, self.chances)

    def learn(self, draft: Draft, truncated: bool) -> None:
        """Take the answer that ``draft`` has followed; one that was cut short says nothing of the rest."""
        known, self._things = self._things, []
        self._text = [] if draft.grammar.bins else draft.columns
        for words, box in draft.found:
            if thing := _nearest(known, words, box):
                thing.see(words, box, self._elapsed)
                known.remove(thing)
            self._things.append(thing or _Thing(words, box))
        if truncated:
            self._things = (self._things + known)[: draft.grammar.max_objects]


class Draft:
    """Proposals for one answer, while it is generated."""

    def __init__(
        self, grammar: Grammar, expected: Sequence[_Thing], text: Sequence[int], chances: list[float]
    ) -> None:
        self.grammar = grammar
        self.drafted = self.accepted = 0
        self.columns: list[int] = []  #: the answer so far
        self.found: list[tuple[Words, Box]] = []  #: its complete objects
        self._expected, self._text, self._chances = list(expected), list(text), chances
        self._words: list[int] = []  # of the object under way
        self._box: list[int] = []
        self._said: list[int] = []  # of the box under way, by a head for whole boxes
        self._guesses: list[Sequence[Guess]] = []  # for each place in the answer, the proposed one first
        self._proposed = 0

    def propose(self, room: int, cost: PassCost) -> list[int]:
        """Columns, at most ``room``, that will probably come next: as many as are worth their cost."""
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
        """Take what the model has chosen since the last proposal."""
        for i, (guesses, column) in enumerate(zip(self._guesses, columns, strict=False)):
            for guess, kind in guesses:
                self._chances[kind] += LEARNING * ((guess == column) - self._chances[kind])
            if guesses[0][0] != column:
                break
            self.accepted += i < self._proposed
        for column in columns:
            self._advance(column)

    def say(self, box: list[int]) -> None:
        """Take the guess (4 bins) of a head for whole boxes, of the box that has just begun."""
        self._said = box

    def _advance(self, column: int) -> None:
        self.columns.append(column)
        if column >= self.grammar.bins + self.grammar.ends:
            self._words.append(column)
        elif column < self.grammar.bins:
            self._box.append(column)
        if len(self._box) == 4:
            words, box = tuple(self._words), (self._box[0], self._box[1], self._box[2], self._box[3])
            if thing := _nearest(self._expected, words, box):
                self._expected.remove(thing)
            self.found.append((words, box))
            self._words, self._box, self._said = [], [], []

    def _objects(self) -> Iterator[Sequence[Guess]]:
        """The rest of the object under way, the objects not met yet, and the end."""
        current = None
        if self._words or self._box:
            current = _nearest(self._expected, tuple(self._words), self._box)
            yield from self._rest(current, len(self._words), self._box)
            if current is None:
                return
        for thing in self._expected:
            if thing is not current:
                yield from self._rest(thing, 0, ())
        yield ((self.grammar.bins, END),)

    def _rest(self, thing: _Thing | None, words: int, begun: Sequence[int]) -> Iterator[Sequence[Guess]]:
        """What is still to come of an object, of which so many words and these edges are known.

        Of an object that the last answer did not have, only what the head for whole boxes says.
        """
        said = self._said if begun else []
        if not (thing or said):
            return
        if thing and not begun:
            yield from (((word, WORD),) for word in thing.words[words:])
        box = list(begun)
        for i in range(len(box), 4):
            least = box[i - 2] + 1 if i > 1 else 0
            guesses = [(thing.moves[i], MOVES + i), (thing.stays[i], STAYS + i)] if thing else []
            guesses += [(said[i], SAID + i)] if said else []
            guesses.sort(key=lambda guess: -self._chances[guess[1]])
            box.append(max(guesses[0][0], least))
            yield [(max(place, least), kind) for place, kind in guesses]

    def _same_text(self) -> Iterator[Sequence[Guess]]:
        """Free text goes on like the last one while it is the same."""
        done = len(self.columns)
        if self._text[:done] == self.columns:
            yield from (((column, WORD),) for column in self._text[done:])


def _bins(box: np.ndarray, bins: int) -> Box:
    """Edges as the grammar can say them."""
    low = box[:2].round().clip(0, bins - 2).astype(int)
    high = box[2:].round().astype(int).clip(low + 1, bins - 1)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
