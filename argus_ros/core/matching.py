"""Matches detections to ground truth by overlap, and counts hits and errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from argus_ros.core.types import Detection

Box = tuple[float, float, float, float]  #: x_min, y_min, x_max, y_max


@dataclass(frozen=True)
class Truth:
    """One ground-truth object, with its box in the same pixels as the detections."""

    label: str
    box: Box
    description: str = ""
    ignored: bool = False  #: neither a miss nor a false alarm, found or not


@dataclass
class Tally:
    """Counts over any number of pictures."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0
    overlap: float = 0.0  #: sum of the hits' IoU

    @property
    def precision(self) -> float:
        return self.hits / max(self.hits + self.false_alarms, 1)

    @property
    def recall(self) -> float:
        return self.hits / max(self.hits + self.misses, 1)

    @property
    def f1(self) -> float:
        return 2 * self.hits / max(2 * self.hits + self.false_alarms + self.misses, 1)

    @property
    def mean_iou(self) -> float:
        return self.overlap / max(self.hits, 1)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.hits + other.hits,
            self.false_alarms + other.false_alarms,
            self.misses + other.misses,
            self.overlap + other.overlap,
        )


def box_of(detection: Detection) -> Box:
    return (detection.x_min, detection.y_min, detection.x_max, detection.y_max)


def iou(a: Sequence[Box] | np.ndarray, b: Sequence[Box] | np.ndarray) -> np.ndarray:
    """Intersection over union of every pair, (len(a), len(b)) float64."""
    first = np.asarray(a, float).reshape(-1, 1, 4)
    second = np.asarray(b, float).reshape(1, -1, 4)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = sides.clip(min=0).prod(-1)
    union = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1) - shared
    return shared / np.maximum(union, 1e-9)


def match(
    detections: Sequence[Detection], truths: Sequence[Truth], threshold: float = 0.5
) -> list[tuple[int, int, float]]:
    """Pairs (detection, truth, IoU) of the same label with enough IoU, in descending order of score.

    A detection matches an ignored truth only where no other is left.
    """
    overlap = iou([box_of(d) for d in detections], [t.box for t in truths])
    pairs = []
    free = set(range(len(truths)))
    for i in sorted(range(len(detections)), key=lambda i: -detections[i].score):
        candidates = [
            j for j in free if truths[j].label == detections[i].label and overlap[i, j] >= threshold
        ]
        if candidates:
            best = max(candidates, key=lambda j: (not truths[j].ignored, overlap[i, j]))
            free.discard(best)
            pairs.append((i, best, float(overlap[i, best])))
    return pairs
