"""Scenes: splits share nothing, a seed is a scene, objects stay visible."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from argus_ros.training import scenes
from argus_ros.training.scenes import backgrounds, painting
from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings import KINDS


def test_a_seed_is_a_scene() -> None:
    first, again, other = scenes.render(5), scenes.render(5), scenes.render(6)
    assert first.objects == again.objects
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.slow
@pytest.mark.parametrize("split", scenes.SPLITS)
def test_objects_lie_in_the_picture_largest_first(split: str) -> None:
    for seed in range(60):
        scene = scenes.render(seed, split, (200, 150))
        assert scene.image.shape == (150, 200, 3)
        assert scene.image.dtype == np.uint8
        areas = [item.area for item in scene.objects]
        assert areas == sorted(areas, reverse=True)
        for item in scene.objects:
            x0, y0, x1, y1 = item.box
            assert 0 <= x0 < x1 <= 200
            assert 0 <= y0 < y1 <= 150
            assert item.label in scenes.CLASSES
            assert item.colour in scenes.COLOURS


@pytest.mark.slow
def test_counts_sizes_and_classes_vary() -> None:
    everything = [scenes.render(seed, size=(160, 120)).objects for seed in range(300)]
    assert {len(objects) for objects in everything} == set(range(9))
    assert {t.label for objects in everything for t in objects} == set(scenes.CLASSES)
    sides = [(t.area / (160 * 120)) ** 0.5 for objects in everything for t in objects]
    assert min(sides) < 0.1
    assert max(sides) > 0.5


def test_nothing_is_hidden_by_more_than_a_third_of_another() -> None:
    for seed in range(60):
        boxes = [t.box for t in scenes.render(seed, size=(160, 120)).objects]
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                smaller = min((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b))
                bigger = max((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b))
                # Either is in front: it hides at most 0.34 of the other one.
                assert scenes.overlap(a, b) <= max(0.35 * bigger, 0.35 * smaller) + 1


@pytest.mark.slow
def test_splits_share_neither_drawings_nor_backgrounds(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, set[object]] = {}
    split = ""

    def note(what: object) -> None:
        drawn.setdefault(split, set()).add(what)

    def noting(label: str) -> Callable[[Brush, int], None]:
        def draw(brush: Brush, variant: int) -> None:
            note((label, variant))
            KINDS[label].draw(brush, variant)

        return draw

    noted = {label: replace(kind, fixed=noting(label), varied=noting(label)) for label, kind in KINDS.items()}
    monkeypatch.setattr(painting, "KINDS", noted)
    makers = backgrounds.BACKGROUNDS

    def background(number: int) -> object:
        def make(*arguments: object) -> np.ndarray:
            note(number)
            return makers[number](*arguments)

        return make

    monkeypatch.setattr(backgrounds, "BACKGROUNDS", tuple(background(i) for i in range(len(makers))))
    for split in scenes.SPLITS:
        for seed in range(250):
            scenes.render(seed, split, (40, 30))
    assert drawn["train"] == drawn["val"]
    assert not drawn["train"] & drawn["heldout"]
    variants = sum(kind.variants for kind in KINDS.values())
    assert len(drawn["train"] | drawn["heldout"]) == variants + len(makers)


def test_photographs_stand_behind_some_scenes() -> None:
    photograph = np.full((90, 140, 3), (9, 200, 9), np.uint8)
    plain = [scenes.render(seed, size=(80, 60), objects=(0, 0)).image for seed in range(60)]
    with_it = [scenes.render(seed, "train", (80, 60), (0, 0), [photograph]).image for seed in range(60)]

    def green(image: np.ndarray) -> bool:
        red, middle, blue = np.median(image, (0, 1))
        return bool(middle > 4 * max(red, blue))

    assert not any(map(green, plain))
    assert 5 < sum(map(green, with_it)) < 30
    assert all(image.shape == (60, 80, 3) for image in with_it)


def test_train_and_val_scenes_differ_for_one_seed() -> None:
    assert not np.array_equal(scenes.render(1, "train").image, scenes.render(1, "val").image)
