"""What the still gate takes for the same scene, and what not."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from argus_ros.core.still import Snapshot, StillGate, thumbnail
from argus_ros.core.types import Answer, Detection, StageTimes, Status

ANSWER = Answer((Detection("cone", 0.9, 0, 0, 5, 5),), times=StageTimes(vision=1.0), decode_passes=9)


@lru_cache
def room(seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """A prepared tile (160, 160, 3) uint8; ``noise`` is that of a sensor of four times the pixels."""
    y, x = np.mgrid[:160, :160]
    pixels = np.stack([90 + 40 * np.sin(x / 13), 100 + y / 3, 120 - x / 5], axis=2)
    grain = np.random.default_rng(seed).normal(0, noise / 2, pixels.shape)
    return (pixels + grain).clip(0, 255).astype(np.uint8)


def with_box(x: int, y: int, side: int = 5, contrast: int = 40) -> np.ndarray:
    picture = room().copy()
    picture[y : y + side, x : x + side] += np.uint8(contrast)
    return picture


def snapshot(
    picture: np.ndarray, capture_time: float = 0.0, question: str = "detect", level: int = 0
) -> Snapshot:
    return Snapshot(thumbnail(picture), question, level, capture_time)


def recalled(before: np.ndarray, after: np.ndarray) -> bool:
    gate = StillGate()
    gate.remember("front", snapshot(before), ANSWER)
    return gate.recall("front", snapshot(after)) is not None


def test_an_answer_is_repeated_without_its_cost() -> None:
    gate = StillGate()
    gate.remember("front", snapshot(room()), ANSWER)
    answer = gate.recall("front", snapshot(room()))
    assert answer == replace(ANSWER, status=Status.REUSED, times=StageTimes(), decode_passes=0)
    assert gate.recall("rear", snapshot(room())) is None


@pytest.mark.parametrize("noise", [0.0, 3.0, 10.0])
def test_noise_is_no_change(noise: float) -> None:
    assert all(recalled(room(1, noise), room(seed, noise)) for seed in range(2, 6))


def test_a_small_object_that_appears_disappears_or_moves_is_detected() -> None:
    rng = np.random.default_rng(0)
    for x, y in zip(rng.integers(0, 150, 50), rng.integers(0, 150, 50), strict=True):
        assert not recalled(room(), with_box(x, y)), (x, y)
        assert not recalled(with_box(x, y), room()), (x, y)
        assert not recalled(with_box(x, y), with_box(x + 5, y)), (x, y)


def test_slow_motion_is_detected_once_it_is_large_enough() -> None:
    gate = StillGate()
    gate.remember("front", snapshot(with_box(50, 50)), ANSWER)
    steps = [gate.recall("front", snapshot(with_box(50 + i, 50))) is None for i in range(6)]
    assert not steps[0]
    assert steps[-1]
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    "other",
    [
        {"question": "ground"},
        {"level": 1},
        {"capture_time": 1.01},
        {"capture_time": -0.1},  # time went back
    ],
)
def test_other_inputs_of_an_answer_are_compared(other: dict) -> None:
    gate = StillGate(longest=1.0)
    gate.remember("front", snapshot(room()), ANSWER)
    assert gate.recall("front", snapshot(room(), capture_time=1.0)) is not None
    assert gate.recall("front", snapshot(room(), **other)) is None


def test_an_answer_cut_short_is_not_repeated() -> None:
    gate = StillGate()
    gate.remember("front", snapshot(room()), ANSWER)
    gate.remember("front", snapshot(room()), replace(ANSWER, status=Status.TRUNCATED))
    assert gate.recall("front", snapshot(room())) is None


def test_forgetting() -> None:
    gate = StillGate()
    for camera in ("front", "rear"):
        gate.remember(camera, snapshot(room()), ANSWER)
    gate.forget("front")
    assert gate.recall("front", snapshot(room())) is None
    assert gate.recall("rear", snapshot(room())) is not None
