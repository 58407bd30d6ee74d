"""Measures of accuracy over many pictures."""

from __future__ import annotations

import contextlib
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from argus_ros.core.matching import Box, Tally, Truth, box_of, iou, match
from argus_ros.core.types import Detection

#: Bounds between object sizes: side of a square as large as the box, in pixels of the picture.
SIDES = (16, 32, 64, 128, 256)
#: Bins of the reliability diagram.
BINS = 10
#: Temperatures tried in the fit: steps of 5%.
TEMPERATURES = np.geomspace(0.25, 8, 72)


def side(box: Box) -> float:
    """Side of a square as large as a box."""
    return math.sqrt(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))


def size_name(length: float) -> str:
    """The key of the range of ``SIDES`` that contains a length."""
    edges = (0, *SIDES)
    i = sum(length >= edge for edge in SIDES)
    return f"{edges[i]}-{edges[i + 1]}" if i < len(SIDES) else f"{edges[i]}+"


@dataclass
class Accuracy:
    """Counts detections of ``classes`` against the ground truth, picture by picture.

    As in COCO's measure, a wrong detection smaller than ``min_side`` is ignored as well.
    """

    classes: Sequence[str]
    min_side: float = 0.0
    per_class: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    per_size: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    scores: list[float] = field(default_factory=list)  #: of right and wrong detections, without ignored ones
    right: list[bool] = field(default_factory=list)
    found: list[Sequence[Detection]] = field(default_factory=list)
    truths: list[Sequence[Truth]] = field(default_factory=list)
    confused: Counter[tuple[str, str]] = field(default_factory=Counter)  #: (true label, detected label)

    def add(self, found: Sequence[Detection], truths: Sequence[Truth]) -> list[bool | None]:
        """Add a picture; returns whether each detection is right, None for an ignored one."""
        pairs = {i: (truths[j], overlap) for i, j, overlap in match(found, truths)}
        verdicts: list[bool | None] = []
        for i, detection in enumerate(found):
            truth, overlap = pairs.get(i, (None, 0.0))
            if truth is None:
                small = side(box_of(detection)) < self.min_side
                verdicts.append(None if small else False)
            else:
                verdicts.append(None if truth.ignored else True)
            if verdicts[-1] is None:
                continue
            box = truth.box if truth else box_of(detection)
            self._count(detection.label, box, Tally(1, 0, 0, overlap) if truth else Tally(0, 1))
            self.scores.append(detection.score)
            self.right.append(bool(verdicts[-1]))
        taken = {id(truth) for truth, _ in pairs.values()}
        missed = [t for t in truths if id(t) not in taken and not t.ignored]
        for truth in missed:
            self._count(truth.label, truth.box, Tally(0, 0, 1))
        wrong = [d for d, verdict in zip(found, verdicts, strict=True) if verdict is False]
        overlap_of = iou([box_of(d) for d in wrong], [t.box for t in missed])
        for i, j in np.argwhere(overlap_of >= 0.5):
            self.confused[missed[j].label, wrong[i].label] += 1
        self.found.append(found)
        self.truths.append(truths)
        return verdicts

    def _count(self, label: str, box: Box, one: Tally) -> None:
        self.per_class[label] += one
        self.per_size[size_name(side(box))] += one

    @property
    def whole(self) -> Tally:
        return sum(self.per_class.values(), Tally())

    def figures(self) -> dict[str, Any]:
        """All figures, under the keys of ``argus evaluate --json``."""
        sizes = [size_name(edge) for edge in (0, *SIDES)]
        per_class = {label: figures(self.per_class[label]) for label in self.classes}
        return {
            **figures(self.whole),
            "f1_mean_of_classes": float(np.mean([row["f1"] for row in per_class.values()])),
            "mean_iou": self.whole.mean_iou,
            **average_precision(self.classes, self.truths, self.found, self.min_side),
            "best_score": self._best_score(),
            "ece": calibration_error(self.scores, self.right),
            "reliability": reliability(self.scores, self.right),
            "per_class": per_class,
            "confused": [
                {"is": there, "taken_for": said, "count": count}
                for (there, said), count in self.confused.most_common(10)
            ],
            "per_size": {name: figures(self.per_size[name]) for name in sizes if name in self.per_size},
        }

    def _best_score(self) -> dict[str, float]:
        """The score threshold with the highest F1. Matching is by descending score, so hits stay hits."""
        order = np.argsort(self.scores)[::-1]
        right = np.array(self.right, bool)[order]
        wanted = self.whole.hits + self.whole.misses
        f1 = 2 * right.cumsum() / (np.arange(len(right)) + 1 + wanted)
        if not len(f1):
            return {"score": 0.0, "f1": 0.0}
        best = int(f1.argmax())
        return {"score": float(np.array(self.scores)[order][best]), "f1": float(f1[best])}


def figures(counts: Tally) -> dict[str, float]:
    return {
        "f1": counts.f1,
        "precision": counts.precision,
        "recall": counts.recall,
        "objects": counts.hits + counts.misses,
    }


def average_precision(
    classes: Sequence[str],
    truths: Sequence[Sequence[Truth]],
    found: Sequence[Sequence[Detection]],
    min_side: float = 0.0,
) -> dict[str, float]:
    """``map``, the mean over IoU 0.50 to 0.95 and the classes, and ``map_50``, computed by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def coco(boxes: list[dict[str, Any]]) -> Any:
        made = COCO()
        made.dataset = {
            "images": [{"id": i} for i in range(len(truths))],
            "categories": [{"id": i} for i in range(len(classes))],
            "annotations": [{**box, "id": i + 1} for i, box in enumerate(boxes)],
        }
        made.createIndex()
        return made

    def entry(picture: int, label: str, box: Box, **more: Any) -> dict[str, Any]:
        width, height = box[2] - box[0], box[3] - box[1]
        bbox, area = [box[0], box[1], width, height], width * height
        return {
            "image_id": picture,
            "category_id": classes.index(label),
            "bbox": bbox,
            "area": area,
            "iscrowd": 0,
            **more,
        }

    there = [
        # Boxes ignored for their size have an area out of the range; other ignored ones are crowds.
        entry(i, t.label, t.box, iscrowd=int(t.ignored and side(t.box) >= min_side))
        for i, row in enumerate(truths)
        for t in row
    ]
    said = [entry(i, d.label, box_of(d), score=d.score) for i, row in enumerate(found) for d in row]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        measure = COCOeval(coco(there), coco(said), "bbox")
        measure.params.areaRng, measure.params.areaRngLbl = [[min_side**2, math.inf]], ["all"]
        measure.evaluate()
        measure.accumulate()
    precision = measure.eval["precision"][..., 0, -1]  # (IoU, recall, class); -1 for a class without objects
    known = precision[:, :, (precision[0] >= 0).any(0)]
    if not known.size:
        return {"map": 0.0, "map_50": 0.0}
    return {"map": float(known.mean()), "map_50": float(known[0].mean())}


# --- calibration ------------------------------------------------------------------------------


def reliability(scores: Sequence[float], right: Sequence[bool]) -> list[dict[str, float]]:
    """For each of ``BINS`` equal ranges of scores: mean score, share of right detections, number."""
    score, hit = np.asarray(scores, float), np.asarray(right, float)
    bins = np.minimum((score * BINS).astype(int), BINS - 1)
    return [
        {
            "score": float(score[bins == i].mean()),
            "right": float(hit[bins == i].mean()),
            "count": int((bins == i).sum()),
        }
        for i in range(BINS)
        if (bins == i).any()
    ]


def calibration_error(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error: mean difference of score and share of right detections."""
    rows = reliability(scores, right)
    return sum(r["count"] * abs(r["score"] - r["right"]) for r in rows) / max(len(scores), 1)


def fit_temperature(rescore: Callable[[float], Sequence[float]], right: Sequence[bool]) -> float:
    """The temperature with the least log loss (arXiv 1706.04599); ``rescore`` gives all scores for one."""
    hit = np.asarray(right, bool)

    def loss(temperature: float) -> float:
        score = np.clip(rescore(temperature), 1e-6, 1 - 1e-6)
        return float(-np.log(np.where(hit, score, 1 - score)).mean())

    return float(min(TEMPERATURES, key=loss))
