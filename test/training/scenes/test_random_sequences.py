"""A seed gives the scene that it has always given: checkpoints and measured figures depend on that.

The number after everything was drawn shows that as many random numbers were taken as before, in the same way.
Pixels are not compared, since they differ between versions of OpenCV.
"""

import numpy as np
import pytest

from argus_ros.training import scenes
from argus_ros.training.scenes.drawings import KINDS
from argus_ros.training.scenes.painting import paint
from argus_ros.training.scenes.solids import FAMILIES, build

AFTER_DRAWINGS = {
    "person": 775329,
    "cone": 915798,
    "ball": 650199,
    "box": 948460,
    "barrel": 771710,
    "chair": 966628,
    "door": 665234,
    "bottle": 462989,
    "robot": 788883,
    "car": 548169,
}
AFTER_SOLIDS = {
    "person": 616341,
    "cone": 52176,
    "ball": 137822,
    "box": 802885,
    "barrel": 402540,
    "chair": 358454,
    "door": 974133,
    "bottle": 914817,
    "robot": 754067,
    "car": 405456,
}
ARRANGED = {
    "train": [
        "orange chair at 84.7",
        "black robot at 33.8",
        "purple door at 30.6",
        "black robot at 0.0",
        "black bottle at 203.6",
    ],
    "val": ["white bottle at 57.8", "orange box at 187.5", "black robot at 215.2", "yellow robot at 114.9"],
    "heldout": [
        "black car at 104.6",
        "white barrel at 155.6",
        "yellow door at 287.0",
        "green box at 179.0",
        "white ball at 120.0",
        "orange ball at 195.7",
    ],
}


@pytest.mark.parametrize("label", KINDS)
def test_drawings_take_the_same_random_numbers(label: str) -> None:
    rng = np.random.default_rng(1)
    for variant in range(KINDS[label].variants):
        for _ in range(20):
            canvas = np.zeros((40, 40, 3), np.uint8)
            paint(canvas, rng, label, "red", (5, 5, 35, 35), "train", variant)
    assert rng.integers(1_000_000) == AFTER_DRAWINGS[label]


@pytest.mark.parametrize("label", FAMILIES)
def test_solids_take_the_same_random_numbers(label: str) -> None:
    rng = np.random.default_rng(1)
    for model in FAMILIES[label].models:
        for _ in range(20):
            build(model, (205, 40, 40), rng)
    assert rng.integers(1_000_000) == AFTER_SOLIDS[label]


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_scenes_have_the_same_objects(split: str) -> None:
    scene = scenes.render(7, split, objects=(3, 8))
    assert [f"{t.colour} {t.label} at {t.box[0]:.1f}" for t in scene.objects] == ARRANGED[split]
