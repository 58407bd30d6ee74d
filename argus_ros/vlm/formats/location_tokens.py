"""The automaton for formats whose coordinates are location tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from argus_ros.vlm.formats.grammar import FULL, START, Cursor, Grammar, labels_last, open_labels
from argus_ros.vlm.formats.reading import Words

#: Number of cached automata: one with a whole vocabulary takes a while to build.
KEPT = 8


@dataclass(frozen=True)
class Signs:
    """The tokens of an automaton."""

    locations: tuple[int, ...]
    ends: tuple[int, ...]
    text: tuple[int, ...]


class Automaton(Cursor):
    """``Cursor`` as a ``Constraint``."""

    @property
    def tokens(self) -> np.ndarray:
        return self.grammar.tokens

    @property
    def column(self) -> dict[int, int]:
        return self.grammar.column


class LabelsLast(Automaton):
    """An object ends with its label, not with its box."""

    def __init__(self, grammar: Grammar, max_objects: int) -> None:
        super().__init__(grammar)
        self.max_objects, self._most = 1 << 30, max_objects

    def advance(self, column: int) -> None:
        super().advance(column)
        if self.state == START and self.objects >= self._most:
            self.state = FULL


def words_then_box(words: Words, locations: tuple[int, ...], max_objects: int) -> Automaton:
    """Any words, then four coordinates; repeated."""
    return Automaton(_open_labels(words, locations, max_objects))


def box_then_label(
    words: Words, locations: tuple[int, ...], separator: int, labels: Sequence[str], max_objects: int
) -> LabelsLast:
    """Four coordinates, then one of ``labels`` or, without any, words; a separator between objects."""
    spelt = tuple(tuple(words.encode(f" {label}")) for label in labels)
    return LabelsLast(_labels_last(words, locations, separator, spelt, max_objects), max_objects)


@lru_cache(maxsize=KEPT)
def _open_labels(words: Words, locations: tuple[int, ...], max_objects: int) -> Grammar:
    return open_labels(_signs(words, locations), max_objects)


@lru_cache(maxsize=KEPT)
def _labels_last(
    words: Words,
    locations: tuple[int, ...],
    separator: int,
    labels: tuple[tuple[int, ...], ...],
    max_objects: int,
) -> Grammar:
    return labels_last(_signs(words, locations, separator), separator, max_objects, labels)


def _signs(words: Words, locations: tuple[int, ...], *more: int) -> Signs:
    never = {*locations, *words.ends, *more}
    return Signs(locations, words.ends, tuple(token for token in words.words if token not in never))
