"""From the columns that a model chose, and the logits it chose them by, to an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from argus_ros.core.types import Detection
from argus_ros.vlm.grammar import Grammar, Object, objects
from argus_ros.vlm.tokens import Tokens

#: A coordinate's confidence is the probability of its bin and this many neighbours to either side.
NEIGHBOURS = 2


def text(grammar: Grammar, columns: Sequence[int], tokens: Tokens) -> str:
    """Free text of an answer."""
    return tokens.decode([int(grammar.tokens[c]) for c in columns if c >= grammar.ends])


def detections(
    grammar: Grammar,
    columns: Sequence[int],
    logits: np.ndarray,
    tokens: Tokens,
    temperature: float,
    size: tuple[int, int],
) -> tuple[Detection, ...]:
    """Complete objects as detections in pixels of a picture of ``size`` (width, height); repeated ones once.

    ``logits`` (steps, columns) are masked by the grammar, so probabilities are renormalised under it. A
    score is the probability of the words times the geometric mean of the coordinates' confidences.
    """
    probabilities = _softmax(logits[: len(columns)] / temperature)
    found: dict[tuple[object, ...], Detection] = {}
    for thing in objects(grammar, columns):
        label, description = _label(grammar, thing, tokens)
        if label:
            box = [
                edge / (grammar.bins - 1) * length for edge, length in zip(thing.box, size * 2, strict=True)
            ]
            score = _score(thing, columns, probabilities, grammar.bins)
            detection = Detection(label, score, box[0], box[1], box[2], box[3], description)
            found.setdefault((label, description, thing.box), detection)
    return tuple(found.values())


def _label(grammar: Grammar, thing: Object, tokens: Tokens) -> tuple[str, str]:
    if grammar.labels is not None:
        return grammar.labels[thing.words]
    words = tokens.decode(thing.words)
    return words, words


def _score(thing: Object, columns: Sequence[int], probabilities: np.ndarray, bins: int) -> float:
    box = thing.start + len(thing.words)
    words = np.prod([probabilities[step, columns[step]] for step in range(thing.start, box)])
    near = [
        probabilities[step, max(0, bin_ - NEIGHBOURS) : min(bins, bin_ + NEIGHBOURS + 1)].sum()
        for step, bin_ in enumerate(thing.box, box)
    ]
    return float(np.clip(words * np.prod(near) ** 0.25, 0.0, 1.0))


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis; broken weights (NaN, infinities) give numbers all the same."""
    logits = np.nan_to_num(logits.astype(np.float64), nan=-1e30, posinf=1e30, neginf=-1e300)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
