"""Counting by hand: what is right, wrong, missed, ignored; average precision; calibration."""

from collections.abc import Sequence

import numpy as np
import pytest

from argus_ros.core.matching import Box, Truth
from argus_ros.core.types import Detection
from argus_ros.tools.accuracy import (
    TEMPERATURES,
    Accuracy,
    average_precision,
    calibration_error,
    fit_temperature,
    reliability,
    size_name,
)

CLASSES = ("cone", "ball")
BIG: Box = (0, 0, 40, 40)
ELSEWHERE: Box = (100, 100, 140, 140)
SMALL: Box = (200, 200, 210, 210)


def said(label: str, box: Box, score: float = 0.9) -> Detection:
    return Detection(label, score, *box)


def there(label: str, box: Box, ignored: bool = False) -> Truth:
    return Truth(label, box, ignored=ignored)


def test_what_is_taken_for_something_else_is_counted() -> None:
    accuracy = Accuracy(CLASSES)
    accuracy.add([said("ball", BIG), said("cone", ELSEWHERE)], [there("cone", BIG), there("cone", ELSEWHERE)])
    accuracy.add([said("ball", SMALL)], [there("ball", SMALL), there("cone", SMALL, ignored=True)])
    assert accuracy.figures()["confused"] == [{"is": "cone", "taken_for": "ball", "count": 1}]


def test_hits_false_alarms_and_misses() -> None:
    accuracy = Accuracy(CLASSES)
    assert accuracy.add([said("cone", BIG), said("ball", ELSEWHERE)], [there("cone", BIG)]) == [True, False]
    assert accuracy.add([], [there("ball", SMALL)]) == []
    figures = accuracy.figures()
    assert (figures["precision"], figures["recall"], figures["f1"]) == (0.5, 0.5, 0.5)
    assert figures["mean_iou"] == 1.0
    assert figures["per_class"]["cone"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "objects": 1}
    assert figures["per_class"]["ball"] == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "objects": 1}
    assert figures["f1_mean_of_classes"] == 0.5
    assert {name: row["objects"] for name, row in figures["per_size"].items()} == {"0-16": 1, "32-64": 1}


def test_what_is_small_is_neither_hit_nor_miss() -> None:
    accuracy = Accuracy(CLASSES, min_side=16)
    truths = [there("cone", BIG), there("cone", SMALL, ignored=True)]
    found = [said("cone", BIG), said("cone", SMALL), said("ball", SMALL), said("ball", ELSEWHERE)]
    assert accuracy.add(found, truths) == [True, None, None, False]
    assert accuracy.add([], truths[1:]) == []
    whole = accuracy.whole
    assert (whole.hits, whole.false_alarms, whole.misses) == (1, 1, 0)
    figures = accuracy.figures()
    assert figures["per_class"]["cone"]["f1"] == 1.0
    assert figures["map_50"] == pytest.approx(1.0)
    assert sum(row["count"] for row in figures["reliability"]) == 2


def test_a_counted_truth_is_taken_before_an_ignored_one() -> None:
    crowd: Box = (0, 0, 40, 44)
    truths = [there("cone", crowd, ignored=True), there("cone", BIG)]
    assert Accuracy(CLASSES).add([said("cone", crowd), said("cone", crowd, 0.5)], truths) == [True, None]


def precision(found: Sequence[Detection], truths: Sequence[Truth]) -> float:
    return average_precision(CLASSES, [truths], [found])["map"]


def test_average_precision_by_hand() -> None:
    truths = [there("cone", BIG), there("cone", ELSEWHERE)]
    assert precision([said("cone", t.box) for t in truths], truths) == pytest.approx(1.0)
    assert precision([], truths) == precision([], []) == 0.0
    # One of two is found: precision 1 up to recall 0.5, that is at 51 of the 101 recalls.
    assert precision([said("cone", BIG)], truths) == pytest.approx(51 / 101)
    # IoU 0.775 counts at 6 of the 10 thresholds.
    near: Box = (0, 0, 40, 31)
    assert precision([said("cone", near)], truths[:1]) == pytest.approx(0.6)


def test_the_best_score_leaves_out_what_is_wrong() -> None:
    accuracy = Accuracy(CLASSES)
    accuracy.add([said("cone", BIG, 0.8), said("cone", ELSEWHERE, 0.3)], [there("cone", BIG)])
    assert accuracy.figures()["best_score"] == {"score": 0.8, "f1": 1.0}
    assert Accuracy(CLASSES).figures()["best_score"] == {"score": 0.0, "f1": 0.0}


@pytest.mark.parametrize(
    ("length", "name"), [(0, "0-16"), (15.9, "0-16"), (16, "16-32"), (255, "128-256"), (256, "256+")]
)
def test_sizes_have_names(length: float, name: str) -> None:
    assert size_name(length) == name


def test_calibration_error_by_hand() -> None:
    scores, right = [0.95, 0.95, 0.25, 1.0], [True, False, False, True]
    assert reliability(scores, right) == [
        {"score": 0.25, "right": 0.0, "count": 1},
        {"score": pytest.approx(2.9 / 3), "right": pytest.approx(2 / 3), "count": 3},
    ]
    assert calibration_error(scores, right) == pytest.approx((0.25 + 0.9) / 4)
    assert calibration_error([], []) == 0.0


def test_the_temperature_that_was_put_in_is_found() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(1, 2, 20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-logit))
    overconfident = 2.5 * logit
    fitted = fit_temperature(lambda t: 1 / (1 + np.exp(-overconfident / t)), right)
    assert fitted == pytest.approx(2.5, rel=0.06)
    assert TEMPERATURES.min() < fitted < TEMPERATURES.max()
