"""Converts the tokens of an answer to detections with scores, or to text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from argus_ros.core.types import Detection, Task
from argus_ros.vlm.formats.grammar import Grammar, Object, objects
from argus_ros.vlm.formats.reading import Format, Question, Sizes, read
from argus_ros.vlm.formats.tokens import Tokens

#: A coordinate's confidence is the probability of its bin and of this many neighbours on either side.
NEIGHBOURS = 2


def text(grammar: Grammar, columns: Sequence[int], tokens: Tokens) -> str:
    """The free text of an answer."""
    return tokens.decode([int(grammar.tokens[c]) for c in columns if c >= grammar.ends])


def detections(
    grammar: Grammar,
    columns: Sequence[int],
    logits: np.ndarray,
    tokens: Tokens,
    temperature: float,
    size: tuple[int, int],
) -> tuple[Detection, ...]:
    """Complete objects as detections in pixels of a picture of ``size`` (width, height), without duplicates.

    ``logits`` (steps, columns) are masked by the grammar, so probabilities are renormalised under it. A score
    is the probability of the words, times the geometric mean of the coordinates' confidences.
    """
    probabilities = _softmax(logits[: len(columns)] / temperature)
    found: dict[tuple[object, ...], Detection] = {}
    for item in objects(grammar, columns):
        label, description = _label(grammar, item, tokens)
        if label:
            box = [
                edge / (grammar.bins - 1) * length for edge, length in zip(item.box, size * 2, strict=True)
            ]
            score = _score(item, columns, probabilities, grammar.bins)
            detection = Detection(label, score, box[0], box[1], box[2], box[3], description)
            found.setdefault((label, description, item.box), detection)
    return tuple(found.values())


def spoken(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> tuple[str, list[int]]:
    """An answer's text, and for each of its tokens the position in the text where it ends."""
    ends = [len(decode(ids[: i + 1])) for i in range(len(ids))]
    return decode(ids), ends


def written(
    format: Format,
    task: Task,
    question: Question,
    text: str,
    ends: Sequence[int],
    probabilities: Sequence[float],
    sizes: Sizes,
) -> tuple[tuple[Detection, ...], int]:
    """The boxes in an open model's answer, and the number of invalid ones.

    A score is the geometric mean of the probabilities of the box's tokens, among the tokens that were
    allowed. It is not calibrated.
    """
    reading = read(format, task, question, text, sizes)
    found = []
    for item in reading.found:
        first, last = bisect_right(ends, item.span[0]), bisect_left(ends, item.span[1])
        near = np.asarray(probabilities[first : last + 1], np.float64)
        score = float(np.exp(np.log(near.clip(1e-9, 1.0)).mean())) if len(near) else 0.0
        found.append(Detection(item.label, score, *item.box, item.description))
    return tuple(found), reading.dropped


def _label(grammar: Grammar, item: Object, tokens: Tokens) -> tuple[str, str]:
    if grammar.labels is not None:
        return grammar.labels[item.words]
    words = tokens.decode(item.words)
    return words, words


def _score(item: Object, columns: Sequence[int], probabilities: np.ndarray, bins: int) -> float:
    box = item.start + len(item.words)
    words = np.prod([probabilities[step, columns[step]] for step in range(item.start, box)])
    near = [
        probabilities[step, max(0, bin_ - NEIGHBOURS) : min(bins, bin_ + NEIGHBOURS + 1)].sum()
        for step, bin_ in enumerate(item.box, box)
    ]
    return float(np.clip(words * np.prod(near) ** 0.25, 0.0, 1.0))


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax along the last axis; defined also for logits with NaN or infinities."""
    logits = np.nan_to_num(logits.astype(np.float64), nan=-1e30, posinf=1e30, neginf=-1e300)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
