"""The grammar of an answer: an automaton over token ids and two registers.

An object is its words, then the bins of x_min, y_min, x_max, y_max. The registers hold the object's x_min and
y_min: a maximum must be greater than its minimum, so that the last bin cannot be a minimum. An answer decoded
under the grammar can always be parsed, for any weights.

Internally a token is its *column*: its index in ``Grammar.tokens``, the list of tokens that the grammar can
ever allow. Location bin ``i`` is column ``i``. So the output layer computes these columns only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from argus_ros.core.checkpoint import Vocabulary
from argus_ros.core.types import Task
from argus_ros.vlm.formats import prompts

if TYPE_CHECKING:
    from argus_ros.vlm.formats.tokens import Tokens

#: The first states; the states of the words follow.
DONE, FULL, Y_MIN, X_MAX, Y_MAX, START = range(6)
#: Maximum length of a label in an open vocabulary, in tokens.
OPEN_WORDS = 12

Words = tuple[int, ...]


@dataclass(frozen=True)
class Grammar:
    """Tables of the automaton. A grammar without bins is free text."""

    tokens: np.ndarray  #: (columns,) token ids
    allowed: np.ndarray  #: (states, columns) bool; the registers restrict this further
    next: np.ndarray  #: (states, columns) int32 state after a column
    bins: int
    max_objects: int
    ends: int  #: columns from ``bins`` to ``bins + ends`` end the answer
    labels: (
        Mapping[Words, tuple[str, str]] | None
    )  #: words as token ids to (label, description); None: the text itself

    @cached_property
    def column(self) -> dict[int, int]:
        """Column of a token id."""
        return {int(token): i for i, token in enumerate(self.tokens)}

    @cached_property
    def forced(self) -> np.ndarray:
        """(states,) the only column that a state allows, or -1. The registers may force others."""
        return np.where(self.allowed.sum(1) == 1, self.allowed.argmax(1), -1)

    def longest(self, max_new_tokens: int = 0, max_objects: int = 0) -> int:
        """Maximum tokens of an answer under these limits (0: none); 0 where it is unlimited."""
        if not self.bins:
            return max_new_tokens
        words = max(map(len, self.labels), default=0) if self.labels is not None else OPEN_WORDS
        most = min(max_objects or self.max_objects, self.max_objects) * (words + 4) + 1
        return min(most, max_new_tokens) if max_new_tokens else most


class Cursor:
    """The state of an answer in its grammar."""

    def __init__(self, grammar: Grammar, max_objects: int = 0) -> None:
        self.grammar = grammar
        self.max_objects = min(max_objects or grammar.max_objects, grammar.max_objects)
        self.state, self.x_min, self.y_min, self.objects = START, 0, 0, 0

    @property
    def done(self) -> bool:
        return self.state == DONE

    def allowed(self) -> np.ndarray:
        """(columns,) bool: columns that may come next; never none before the end."""
        row = self.grammar.allowed[self.state]
        if self.state in (X_MAX, Y_MAX):
            row = row.copy()
            row[: (self.x_min if self.state == X_MAX else self.y_min) + 1] = False
        return row

    def forced(self) -> int:
        """The column that must come next, or -1 when there is a choice."""
        if self.state in (X_MAX, Y_MAX):
            last = self.grammar.bins - 1
            return last if (self.x_min if self.state == X_MAX else self.y_min) == last - 1 else -1
        return int(self.grammar.forced[self.state])

    def advance(self, column: int) -> None:
        """Move on with an allowed column."""
        state, following = self.state, int(self.grammar.next[self.state, column])
        if following == Y_MIN:
            self.x_min = column
        elif state == Y_MIN:
            self.y_min = column
        elif state == Y_MAX:
            self.objects += 1
            if self.objects >= self.max_objects:
                following = FULL
        self.state = following


@dataclass(frozen=True)
class Object:
    """A complete object of an answer, with the steps that produced it."""

    words: Words
    box: tuple[int, int, int, int]  #: bins of x_min, y_min, x_max, y_max
    start: int  #: step of its first token


def objects(grammar: Grammar, columns: Iterable[int]) -> list[Object]:
    """Complete objects in the columns of an answer; an incomplete last one is dropped."""
    found: list[Object] = []
    start, words, box = 0, [], []
    for step, column in enumerate(columns):
        if column < grammar.bins:
            box.append(column)
        elif column >= grammar.bins + grammar.ends:
            words.append(int(grammar.tokens[column]))
        if len(box) == 4:
            found.append(Object(tuple(words), (box[0], box[1], box[2], box[3]), start))
            start, words, box = step + 1, [], []
    return found


def build(task: Task, tokens: Tokens) -> Grammar:
    """The grammar of a task, which has passed ``prompts.check``."""
    vocabulary = tokens.checkpoint.vocabulary
    if vocabulary is None or task.name in ("caption", "ask"):
        return _free_text(tokens)
    labels = _labels(task, vocabulary, tokens)
    if labels is None:
        return open_labels(tokens, vocabulary.max_objects)
    return _closed(tokens, vocabulary, labels)


def _labels(task: Task, vocabulary: Vocabulary, tokens: Tokens) -> dict[Words, tuple[str, str]] | None:
    """The possible words of an object, or None for any words."""
    if task.name == "ground":
        return {(): (task.prompt.strip(), "")}
    if task.name == "detect":
        return {_words(c, tokens): (c, "") for c in prompts.asked_classes(task, vocabulary)}
    if not vocabulary.classes:
        return None
    described = {f"{colour} {c}": c for colour in vocabulary.colours for c in vocabulary.classes}
    described |= {c: c for c in vocabulary.classes}
    return {_words(text, tokens): (c, text) for text, c in described.items()}


def _words(text: str, tokens: Tokens) -> Words:
    """Token ids of a label. Raises TaskError where the tokenizer has no tokens for it."""
    words = tokens.encode(text)
    if not words or not set(words) <= tokens.text_set:
        raise prompts.TaskError(
            f"{tokens.checkpoint.name} has no words for {text!r}; name the class in other words"
        )
    return words


def _free_text(tokens: Tokens) -> Grammar:
    ids = np.array([*tokens.ends, *tokens.text])
    allowed = np.zeros((START + 1, len(ids)), bool)
    allowed[START] = True
    allowed[FULL, : len(tokens.ends)] = True
    following = np.full(allowed.shape, START, np.int32)
    following[:, : len(tokens.ends)] = DONE
    return Grammar(ids, allowed, following, 0, 0, len(tokens.ends), None)


def without_end(grammar: Grammar) -> Grammar:
    """Free text up to the token limit, for measurements with a fixed length."""
    allowed = grammar.allowed.copy()
    allowed[START, grammar.bins : grammar.bins + grammar.ends] = False
    return replace(grammar, allowed=allowed)


class _Tables:
    """The automaton under construction; states from ``START`` on are allocated one by one."""

    def __init__(self, tokens: Symbols, words: Iterable[int]) -> None:
        self.bins, self.ends = len(tokens.locations), len(tokens.ends)
        self.ids = np.array([*tokens.locations, *tokens.ends, *sorted(set(words))])
        self.column = {int(token): i for i, token in enumerate(self.ids)}
        self.rows: list[dict[int, int]] = [{} for _ in range(START)]
        minima, maxima = range(self.bins - 1), range(self.bins)
        self.end = dict.fromkeys(range(self.bins, self.bins + self.ends), DONE)
        self.box = dict.fromkeys(minima, Y_MIN)
        self.rows[FULL] = self.end
        self.rows[Y_MIN] = dict.fromkeys(minima, X_MAX)
        self.rows[X_MAX] = dict.fromkeys(maxima, Y_MAX)
        self.rows[Y_MAX] = dict.fromkeys(maxima, START)

    def add(self) -> int:
        self.rows.append({})
        return len(self.rows) - 1

    def grammar(self, max_objects: int, labels: Mapping[Words, tuple[str, str]] | None) -> Grammar:
        allowed = np.zeros((len(self.rows), len(self.ids)), bool)
        following = np.zeros(allowed.shape, np.int32)
        for state, row in enumerate(self.rows):
            columns = list(row)
            allowed[state, columns] = True
            following[state, columns] = list(row.values())
        return Grammar(self.ids, allowed, following, self.bins, max_objects, self.ends, labels)


def _closed(tokens: Tokens, vocabulary: Vocabulary, labels: dict[Words, tuple[str, str]]) -> Grammar:
    """The labels as a trie, in which equal suffixes share their states."""
    tables = _Tables(tokens, (token for words in labels for token in words))
    start = _trie(tables, frozenset(labels), tables.box)
    tables.rows[start] = tables.rows[start] | tables.end
    return tables.grammar(vocabulary.max_objects, labels)


class Symbols(Protocol):
    """The token ids of an automaton: locations, ends, and words."""

    @property
    def locations(self) -> tuple[int, ...]: ...
    @property
    def ends(self) -> tuple[int, ...]: ...
    @property
    def text(self) -> tuple[int, ...]: ...


def open_labels(symbols: Symbols, max_objects: int) -> Grammar:
    """Any words as a label."""
    tables = _Tables(symbols, symbols.text)
    words = range(tables.bins + tables.ends, len(tables.ids))
    chain = [tables.add() for _ in range(OPEN_WORDS + 1)]
    tables.rows[START] = tables.end | dict.fromkeys(words, chain[1])
    for here, after in zip(chain[1:], [*chain[2:], None], strict=True):
        tables.rows[here] = tables.box | (dict.fromkeys(words, after) if after else {})
    return tables.grammar(max_objects, None)


def labels_last(symbols: Symbols, separator: int, max_objects: int, labels: Sequence[Words] = ()) -> Grammar:
    """The box first, then its label: one of ``labels`` or any words; with ``separator`` between objects.

    A cursor counts the boxes, so it must not stop at the last box while its label is missing.
    """
    tables = _Tables(symbols, (*(t for words in labels or (symbols.text,) for t in words), separator))
    ending = {**tables.end, tables.column[separator]: START}
    tables.add()
    tables.rows[START] = tables.end | tables.box
    if labels:
        first = _trie(tables, frozenset(labels), ending)
    else:
        words = [tables.column[token] for token in symbols.text]
        chain = [tables.add() for _ in range(OPEN_WORDS + 1)]
        first = chain[0]
        for here, after in zip(chain, [*chain[1:], None], strict=True):
            known = ending if here != first else {}
            tables.rows[here] = known | (dict.fromkeys(words, after) if after else {})
    tables.rows[Y_MAX] = dict.fromkeys(range(tables.bins), first)
    return tables.grammar(max_objects, None)


def _trie(tables: _Tables, labels: frozenset[Words], ending: Mapping[int, int]) -> int:
    """The state where a label begins; ``ending`` is allowed after each label."""
    states: dict[frozenset[Words], int] = {}

    def state(remainders: frozenset[Words]) -> int:
        if remainders not in states:
            states[remainders] = index = tables.add()
            row = tables.rows[index]
            if () in remainders:
                row.update(ending)
            for head in sorted({words[0] for words in remainders if words}):
                rest = frozenset(words[1:] for words in remainders if words and words[0] == head)
                row[tables.column[head]] = state(rest)
        return states[remainders]

    return state(labels)
