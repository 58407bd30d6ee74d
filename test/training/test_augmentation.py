"""Whatever is done to a picture, the boxes stay where the objects are."""

from collections.abc import Callable

import numpy as np
import pytest

from argus_ros.core.matching import iou
from argus_ros.training import augmentation
from argus_ros.training.scenes import Scene, SceneObject

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}


def scene() -> Scene:
    """Three plain rectangles on grey, so that an object's box can be read from the pixels."""
    image = np.full((120, 160, 3), 128, np.uint8)
    objects = []
    for (colour, rgb), (x0, y0, x1, y1) in zip(
        COLOURS.items(), ((10, 10, 50, 40), (70, 60, 110, 110), (130, 20, 150, 50)), strict=True
    ):
        image[y0:y1, x0:x1] = rgb
        objects.append(SceneObject(colour, "", (x0, y0, x1, y1)))
    return Scene(image, tuple(objects))


def seen(image: np.ndarray, colour: str) -> tuple[float, float, float, float] | None:
    """The box of the pixels that are nearly of a colour."""
    close = np.abs(image.astype(int) - COLOURS[colour]).max(-1) < 60
    rows, columns = np.where(close)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None


def check(made: Scene, atol: float) -> None:
    height, width = made.image.shape[:2]
    for item in made.objects:
        x0, y0, x1, y1 = item.box
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        np.testing.assert_allclose(seen(made.image, item.label), item.box, atol=atol)


VIEWS: dict[str, Callable[[np.random.Generator], Scene]] = {
    "crop": lambda rng: augmentation.random_crop(scene(), rng),
    "flip": lambda rng: augmentation.flipped(scene()),
    "scale": lambda rng: augmentation.scaled(scene(), 240, 90),
    "flipped crop": lambda rng: augmentation.flipped(augmentation.random_crop(scene(), rng, 0.3)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_boxes_follow_the_pixels(view: str) -> None:
    shown = set()
    for seed in range(20):
        made = VIEWS[view](np.random.default_rng(seed))
        check(made, atol=1)
        shown |= {t.label for t in made.objects}
    assert shown == set(COLOURS)


def test_of_a_object_enough_has_to_be_in_view() -> None:
    left = augmentation.crop(scene(), 35, 0, 160, 120)  # three eighths of the red one are left
    assert [t.label for t in left.objects] == ["green", "blue"]
    assert [t.label for t in augmentation.crop(scene(), 30, 0, 160, 120).objects] == ["red", "green", "blue"]


def test_a_mosaic_has_things_of_all_its_pictures() -> None:
    pictures = [Scene(scene().image, (item,)) for item in scene().objects] + [Scene(scene().image, ())]
    shown = set()
    for seed in range(30):
        made = augmentation.mosaic(pictures, np.random.default_rng(seed), 160, 120)
        assert made.image.shape == (120, 160, 3)
        for item in made.objects:
            x0, y0, x1, y1 = (round(v) for v in item.box)
            middle = made.image[y0:y1, x0:x1].reshape(-1, 3).astype(int)
            assert (np.abs(middle - COLOURS[item.label]).max(-1) < 60).mean() > 0.9
            shown.add(item.label)
    assert shown == set(COLOURS)


def test_a_pasted_object_is_in_the_picture_and_on_nothing() -> None:
    empty = Scene(np.full((120, 160, 3), 128, np.uint8), ())
    source = scene()
    pasted = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        check(augmentation.pasted(empty, source, source.objects[0], rng), atol=3)
        full = augmentation.pasted(source, source, source.objects[0], rng)
        pasted += len(full.objects) - 3
        overlaps = iou([t.box for t in full.objects[3:]], [t.box for t in source.objects])
        assert overlaps.size == 0 or overlaps.max() < 0.1
    assert 0 < pasted < 30
    assert np.array_equal(source.image, scene().image)


def test_recolouring_changes_colours_and_no_shapes() -> None:
    image = scene().image
    made = [augmentation.recoloured(image, np.random.default_rng(seed)) for seed in range(20)]
    assert all(m.shape == image.shape and m.dtype == np.uint8 for m in made)
    assert np.ptp([m.mean() for m in made]) > 20
    assert np.array_equal(image, scene().image)
