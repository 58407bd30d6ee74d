"""Positions on rendered depth whose truth is known, and on depth that is none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import rendered
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rendered import View, ball, chair, crate, person, post, render, sensed

from argus_ros.core.lens import Lens
from argus_ros.core.space import BOX_ERROR, DepthError, Method, Place, locate

SIZE = WIDTH, HEIGHT = 640, 480
LENS = Lens(np.array([[480.0, 0, 319.5], [0, 480, 239.5], [0, 0, 1]]))
#: From the camera into a frame on the floor below it: x ahead, y to the left, z up.
GROUND = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, rendered.CAMERA_HEIGHT], [0, 0, 0, 1.0]])
Box = tuple[float, float, float, float]


def scenes(count: int) -> Iterator[tuple[View, np.ndarray, list[tuple[int, Box]]]]:
    """Views, their depth as a sensor has it, and a detector's boxes of what shows for the greater part."""
    rng = np.random.default_rng(7)
    for _ in range(count):
        depths = rng.uniform(1.5, 7.0, 4)
        spots = list(zip(rng.uniform(-0.5, 0.5, 4) * depths, depths, strict=True))
        makers = (
            lambda x, z: ball(x, z, rng.uniform(0.1, 0.5)),
            lambda x, z: crate(x, z, rng.uniform(0.2, 0.9)),
            lambda x, z: post(x, z, rng.uniform(0.03, 0.2), rng.uniform(0.5, 1.5)),
            person,
            chair,
        )
        objects = [makers[rng.integers(len(makers))](x, z) for x, z in spots]
        view = render(objects)
        boxes = []
        for i in range(len(objects)):
            shows = (view.objects == i).sum()
            if shows < 0.6 * view.whole[i] or shows < 150:
                continue
            box = np.array(view.box(i))
            if box[:2].min() > 0 and box[2] < WIDTH and box[3] < HEIGHT:
                error = rng.normal(0, BOX_ERROR, 4) * np.tile(box[2:] - box[:2], 2)
                boxes.append((i, tuple(box + error)))
        if boxes:
            yield view, sensed(view, rng), boxes


@pytest.mark.slow
def test_depth_is_the_objects_even_if_most_of_its_box_is_background() -> None:
    """Balls, crates, posts, people with their arms out (a quarter of the box) and chairs, four in a view."""
    ours, medians = [], []
    for view, depth, boxes in scenes(40):
        for (i, box), place in zip(boxes, locate([box for _, box in boxes], SIZE, LENS, depth), strict=True):
            truth = np.median(view.depth[view.objects == i])
            assert place.method is Method.DEPTH
            ours.append(abs(place.position[2] / truth - 1))
            x0, y0, x1, y1 = map(int, box)
            core = depth[
                (3 * y0 + y1) // 4 : (y0 + 3 * y1) // 4 + 1, (3 * x0 + x1) // 4 : (x0 + 3 * x1) // 4 + 1
            ]
            medians.append(abs(np.nanmedian(core) / truth - 1))
    assert len(ours) > 100
    assert np.median(ours) < 0.005
    assert np.mean(np.array(ours) > 0.05) < 0.08
    assert np.mean(np.array(medians) > 0.05) > 2 * np.mean(np.array(ours) > 0.05)  # what the histogram is for


def test_the_place_of_a_post_in_all_three_dimensions() -> None:
    item = post(0.8, 3.0, 0.05, 1.2)
    view = render([item])
    (place,) = locate([view.box(0)], SIZE, LENS, view.depth.astype(np.float32))
    np.testing.assert_allclose(place.position, item.centre, atol=0.06)
    np.testing.assert_allclose(place.size, (0.1, 1.2, 0.04), atol=0.06)
    bearing = np.asarray(item.centre) / np.linalg.norm(item.centre)
    np.testing.assert_allclose(place.bearing, bearing, atol=0.01)
    assert place.share > 0.8


@pytest.mark.slow
def test_the_covariance_is_as_large_as_the_errors_are() -> None:
    """Of boxes that miss by as much as is assumed; on average a squared error is one variance."""
    item = ball(0.5, 4.0, 0.3)
    view, rng = render([item]), np.random.default_rng(3)
    box = np.array(view.box(0))
    surface = np.array([0.5, 0.7, np.median(view.depth[view.objects == 0])])
    errors = []
    for _ in range(200):
        middle, span = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        middle = middle + rng.normal(0, BOX_ERROR, 2) * span
        moved = (*(middle - span / 2), *(middle + span / 2))
        (place,) = locate([moved], SIZE, LENS, sensed(view, rng))
        off = place.position - surface
        errors.append(off @ np.linalg.solve(place.covariance, off) / 3)
    assert 0.2 < np.mean(errors) < 1.5


@pytest.mark.parametrize("kind", ["millimetres", "metres", "big endian", "half the size"])
def test_every_form_of_depth_gives_the_same_place(kind: str) -> None:
    view = render([crate(-0.4, 2.5, 0.5), person(0.9, 4.0)])
    boxes = [view.box(0), view.box(1)]
    wanted = locate(boxes, SIZE, LENS, view.depth.astype(np.float32))
    depth = {
        "millimetres": lambda: np.round(view.depth * 1e3).astype(np.uint16),
        "metres": lambda: view.depth.astype("<f4"),
        "big endian": lambda: view.depth.astype(">f4"),
        "half the size": lambda: view.depth[::2, ::2].astype(np.float32),
    }[kind]()
    for found, place in zip(locate(boxes, SIZE, LENS, depth), wanted, strict=True):
        np.testing.assert_allclose(found.position, place.position, rtol=0.01)
        np.testing.assert_allclose(found.size[:2], place.size[:2], rtol=0.01)


@pytest.mark.parametrize("none", [0, 65535, 0.0, np.nan, np.inf, -1.0, 3e38, 1e-9])
def test_without_depth_only_the_direction_is_known(none: float) -> None:
    kind = np.uint16 if isinstance(none, int) else np.float32
    (place,) = locate([(200, 100, 300, 300)], SIZE, LENS, np.full((HEIGHT, WIDTH), none, kind))
    assert place.method is Method.BEARING
    assert np.isnan(place.position).all()
    assert not place.size.any()
    assert not place.covariance.any()
    np.testing.assert_allclose(place.bearing, locate([(200, 100, 300, 300)], SIZE, LENS)[0].bearing)


def test_depth_of_another_shape_is_refused_in_a_sentence() -> None:
    with pytest.raises(DepthError, match=r"640x400 pixels and the image 640x480.*align_depth"):
        locate([(0, 0, 9, 9)], SIZE, LENS, np.ones((400, 640), np.float32))
    assert locate([], SIZE, LENS, np.ones((400, 640), np.float32)) == []


def test_objects_on_the_ground_are_located_without_depth() -> None:
    objects = [crate(-0.4, 2.5, 0.5), post(1.0, 5.0, 0.1, 1.5)]
    view = render(objects)
    places = locate([view.box(0), view.box(1), (300, 10, 340, 100)], SIZE, LENS, ground=GROUND)
    assert [place.method for place in places] == [Method.GROUND, Method.GROUND, Method.BEARING]
    front = (objects[0].centre[2] - 0.25, objects[1].centre[2] - 0.1)  # the lower edge is that of the front
    for place, item, depth in zip(places, objects, front, strict=False):
        assert place.position[2] == pytest.approx(depth, rel=0.02)
        assert place.position[:2] == pytest.approx(item.centre[:2], abs=0.08)
        assert place.size[2] == 0
    assert places[1].covariance[2, 2] > 2 * places[0].covariance[2, 2]  # it lies nearer to the horizon

    depth = view.depth.astype(np.float32)
    depth[:, : WIDTH // 2] = np.nan
    both = locate([view.box(0), view.box(1)], SIZE, LENS, depth, GROUND)
    assert [place.method for place in both] == [Method.GROUND, Method.DEPTH]


def test_a_box_that_the_lens_does_not_reach_has_no_direction_and_spoils_no_other() -> None:
    strong = Lens(LENS.matrix, np.array([-0.4, 0.0, 0, 0, 0]))
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    outside, inside = locate([(0, 0, 20, 20), (310, 230, 330, 250)], SIZE, strong, depth)
    assert outside.method is Method.BEARING
    assert np.isnan(outside.bearing).all()
    assert inside.method is Method.DEPTH
    assert inside.position[2] == pytest.approx(2.0)


def test_objects_cut_by_the_lower_border_are_not_located_on_the_ground() -> None:
    """Its foot is not seen: the border of the picture would stand in for it, and it would be too far away."""
    cut, whole = locate([(200, 100, 300, HEIGHT), (200, 100, 300, HEIGHT - 3)], SIZE, LENS, ground=GROUND)
    assert (cut.method, whole.method) == (Method.BEARING, Method.GROUND)


def test_depth_that_does_not_vary_is_not_certain() -> None:
    (place,) = locate([(200, 100, 300, 300)], SIZE, LENS, np.full((HEIGHT, WIDTH), 2.0, np.float32))
    assert place.method is Method.DEPTH
    assert np.linalg.eigvalsh(place.covariance).min() > 1e-5


NUMBERS = st.floats(width=32)
BENT = Lens(LENS.matrix, np.array([-0.6, 0.0, 0, 0, 0]))


@pytest.mark.slow
@given(
    lens=st.sampled_from([LENS, BENT]),
    depth=arrays(np.float32, (12, 16), elements=NUMBERS) | arrays(np.uint16, (12, 16)),
    boxes=st.lists(st.tuples(*[st.floats(-50, 700)] * 4), min_size=1, max_size=5),
    ground=st.none() | arrays(float, (4, 4), elements=st.floats(-10, 10)),
)
def test_no_data_raise_an_error(
    lens: Lens, depth: np.ndarray, boxes: list[Box], ground: np.ndarray | None
) -> None:
    ordered = [(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in boxes]
    places: list[Place] = locate(ordered, SIZE, lens, depth, ground)
    assert len(places) == len(ordered)
    for place in places:
        known = place.method is not Method.BEARING
        assert np.isfinite(place.position).all() == known
        assert np.isfinite(place.covariance).all()
        assert np.linalg.eigvalsh(place.covariance).min() >= -1e-6 * max(1.0, np.abs(place.covariance).max())
        assert (place.size >= 0).all()
        assert 0 <= place.share <= 1 + 1e-6
