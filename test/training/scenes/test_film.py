"""The demo's film: the same each time, its objects move as the camera does."""

from itertools import pairwise

import numpy as np
import pytest

from argus_ros.training.scenes.film import Walk, film

WALK = Walk(seed=3, seconds=2.0, rate=5.0, width=320, height=240)


def test_a_walk_is_a_film() -> None:
    first, again = list(film(WALK)), list(film(WALK))
    assert len(first) == 10
    assert [s.seen for s in first] == [s.seen for s in again]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert [s.seconds for s in first] == [i / 5 for i in range(10)]


def test_objects_move_against_the_camera_and_keep_their_size() -> None:
    for before, after in pairwise(film(WALK)):
        inside = {(s.label, s.box[1]): s for s in before.seen if s.counts and s.box[0] > 0 and s.box[2] < 320}
        for seen in after.seen:
            then = inside.get((seen.label, seen.box[1]))
            if then and seen.counts and seen.box[0] > 0:
                assert seen.box[0] < then.box[0]
                assert np.isclose(seen.box[2] - seen.box[0], then.box[2] - then.box[0])


def test_a_still_camera_sees_the_same_objects() -> None:
    still = list(film(Walk(seed=3, seconds=1.0, rate=3.0, width=320, height=240, speed=0.0)))
    assert still[0].seen == still[-1].seen
    assert still[0].seen


@pytest.mark.slow
def test_what_is_cut_or_hidden_does_not_count() -> None:
    for shot in film(Walk(seed=3, seconds=6.0, rate=5.0)):
        for seen in shot.seen:
            x0, y0, x1, y1 = seen.box
            assert 0 <= x0 < x1 <= 640
            assert 0 <= y0 < y1 <= 480
    assert any(not s.counts for shot in film(Walk(seed=3, seconds=6.0, rate=5.0)) for s in shot.seen)
