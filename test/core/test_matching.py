"""Overlap and matching, by hand and by properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus_ros.core.matching import Box, Tally, Truth, iou, match
from argus_ros.core.types import Detection


def found(label: str, box: Box, score: float = 1.0) -> Detection:
    return Detection(label, score, *box)


def test_iou_by_hand() -> None:
    a: Box = (0, 0, 2, 2)
    assert iou([a], [a, (1, 0, 3, 2), (5, 5, 6, 6)]) == pytest.approx(np.array([[1, 1 / 3, 0]]))
    assert iou([], [a]).shape == (0, 1)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y, w, h = (draw(st.floats(0.1, 50)) for _ in range(4))
    return (x, y, x + w, y + h)


@pytest.mark.slow
@given(st.lists(boxes(), max_size=5), st.lists(boxes(), max_size=5))
def test_iou_is_symmetric_and_bounded(a: list[Box], b: list[Box]) -> None:
    overlap = iou(a, b)
    assert np.allclose(overlap, iou(b, a).T)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-9)).all()


def test_the_surest_detection_takes_the_truth() -> None:
    truth = [Truth("cone", (0, 0, 10, 10))]
    pairs = match([found("cone", (0, 0, 10, 9), 0.4), found("cone", (0, 0, 10, 8), 0.9)], truth)
    assert pairs == [(1, 0, pytest.approx(0.8))]


def test_labels_and_overlap_have_to_agree() -> None:
    truth = [Truth("cone", (0, 0, 10, 10))]
    assert match([found("ball", (0, 0, 10, 10))], truth) == []
    assert match([found("cone", (0, 0, 10, 4))], truth) == []


def test_an_ignored_truth_is_taken_last() -> None:
    truth = [Truth("cone", (0, 0, 10, 10), ignored=True), Truth("cone", (0, 0, 10, 8))]
    pairs = match([found("cone", (0, 0, 10, 10), 0.9), found("cone", (0, 0, 10, 10), 0.4)], truth)
    assert pairs == [(0, 1, pytest.approx(0.8)), (1, 0, pytest.approx(1.0))]


def test_counts_add_up() -> None:
    both = Tally(1, 0, 0, 0.8) + Tally(0, 1, 1)
    assert (both.precision, both.recall, both.f1, both.mean_iou) == (0.5, 0.5, 0.5, 0.8)
    assert Tally().f1 == 0.0


@pytest.mark.slow
@given(st.lists(boxes(), max_size=6), st.lists(boxes(), max_size=6))
def test_nothing_is_matched_twice(a: list[Box], b: list[Box]) -> None:
    pairs = match([found("cone", box) for box in a], [Truth("cone", box) for box in b], 0.1)
    assert len({i for i, _, _ in pairs}) == len({j for _, j, _ in pairs}) == len(pairs)
