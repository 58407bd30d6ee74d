"""Identities of the rendered film's own objects, with boxes and frames that go missing."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Container, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argus_ros.core.matching import Box
from argus_ros.core.tracking import MEMORY, Tracker
from argus_ros.core.types import Detection
from argus_ros.training.scenes import film
from argus_ros.training.scenes.film import Walk

SECOND = 1_000_000_000
#: The demo's walk, and a hasty one.
FILMS = [Walk(seed=3, seconds=8, speed=0.7), Walk(seed=5, seconds=8, speed=1.4)]

Frame = dict[tuple[int, int], tuple[str, Box]]  #: what shows, by the object's number and its appearance


def truth(walk: Walk) -> list[Frame]:
    """What shows in each frame of a walk, without rendering it."""
    objects = film.place(walk)
    frames: list[Frame] = []
    last: dict[int, int] = {}  # frame in which an object was seen last
    appearances: Counter[int] = Counter()  # those behind others for long are new when they come out
    for i in range(round(walk.seconds * walk.rate)):
        at = walk.speed * i / walk.rate
        boxes = [(t, film.project(walk, t, at)) for t in objects]
        inside = [(t, b) for t, b in boxes if b[2] > 1 and b[0] < walk.width - 1]
        seen = film.truth(walk, inside, at)
        frames.append({})
        for (item, _), what in zip(inside, seen, strict=True):
            if what.counts:
                appearances[item.number] += i - last.get(item.number, -MEMORY) >= MEMORY
                frames[i][item.number, appearances[item.number]] = what.label, what.box
                last[item.number] = i
    return frames


def follow(
    frames: Iterable[Frame], rate: float, skipped: Container[int] = (), jitter: float = 0.0
) -> dict[tuple[int, int], set[str]]:
    """Track the frames; the names that each item was given in each of its appearances."""
    tracker, noise = Tracker(), np.random.default_rng(1)
    names: dict[tuple[int, int], set[str]] = defaultdict(set)
    for i, frame in enumerate(frames):
        if i in skipped:
            continue
        found = [
            Detection(label, 0.9, *(np.asarray(box) + noise.normal(0, jitter, 4)))
            for label, box in frame.values()
        ]
        tracked = tracker.update(found, round(i / rate * SECOND))
        assert [(d.label, d.x_min) for d in tracked] == [(d.label, d.x_min) for d in found]
        for item, detection in zip(frame, tracked, strict=True):
            names[item].add(detection.track_id)
    return names


def assert_stable(names: dict[tuple[int, int], set[str]]) -> None:
    assert {item: ids for item, ids in names.items() if len(ids) > 1} == {}
    bearers = {(name, number) for (number, _), ids in names.items() for name in ids}
    assert len(bearers) == len({name for name, _ in bearers}), "one name for two objects"


@pytest.mark.parametrize("walk", FILMS, ids=["steady", "hasty"])
@pytest.mark.parametrize("jitter", [0.0, 3.0])
def test_every_object_keeps_its_id(walk: Walk, jitter: float) -> None:
    frames = truth(walk)
    assert len({item for frame in frames for item in frame}) > 5
    assert_stable(follow(frames, walk.rate, jitter=jitter))


@pytest.mark.parametrize("walk", FILMS, ids=["steady", "hasty"])
@pytest.mark.parametrize("first", range(3))
def test_names_outlast_dropped_frames(walk: Walk, first: int) -> None:
    """Every third frame of the film is lost."""
    frames = truth(walk)
    assert_stable(follow(frames, walk.rate, skipped=set(range(first, len(frames), 3)), jitter=2.0))


@pytest.mark.parametrize("walk", FILMS, ids=["steady", "hasty"])
def test_an_id_survives_a_frame_without_the_object(walk: Walk) -> None:
    frames = truth(walk)
    rng = np.random.default_rng(0)
    missed: set[tuple[int, int]] = set()
    for frame in frames:  # no object is missed twice running
        missed = {item for item in frame if item not in missed and rng.random() < 0.2}
        for item in missed:
            del frame[item]
    assert_stable(follow(frames, walk.rate, jitter=2.0))


@pytest.mark.parametrize("rate", [1.0, 5.0, 15.0, 60.0])
def test_memory_is_in_frames_at_any_rate(rate: float) -> None:
    cone = Detection("cone", 0.9, 10, 10, 50, 90)
    tracker = Tracker()
    for i in range(4):
        assert tracker.update([cone], round(i / rate * SECOND))[0].track_id == "1"
    after = round((4 + MEMORY) / rate * SECOND)
    assert tracker.update([cone], after)[0].track_id == "1"
    later = after + round((MEMORY + 2) / rate * SECOND)
    assert tracker.update([cone], later)[0].track_id == "2"


def test_no_name_is_given_twice_when_time_goes_back() -> None:
    cones = [Detection("cone", 0.9, x, 10, x + 20, 40) for x in (0.0, 100.0)]
    tracker = Tracker()
    assert [d.track_id for d in tracker.update(cones, 5 * SECOND)] == ["1", "2"]
    assert [d.track_id for d in tracker.update(cones, 1 * SECOND)] == ["3", "4"]


@pytest.mark.parametrize(
    "stamps",
    [
        [0] * 6,  # a driver that leaves them there
        [5 * SECOND] * 6,  # one whose clock stands still
        [5 * SECOND, 0, 5 * SECOND + 1, 0, 0, 5 * SECOND + 2],
        [5 * SECOND, 5 * SECOND + 100, 5 * SECOND + 50, 5 * SECOND + 200, 5 * SECOND + 150, 5 * SECOND + 300],
    ],
    ids=["zero", "repeated", "zero at times", "out of order"],
)
def test_frames_count_where_stamps_tell_no_time(stamps: list[int]) -> None:
    tracker = Tracker()
    names = [tracker.update([Detection("cone", 0.9, 10, 10, 50, 90)], stamp)[0].track_id for stamp in stamps]
    assert names == ["1"] * len(stamps)
    for stamp in stamps[:1] * (MEMORY + 2):
        tracker.update([], stamp)
    assert tracker.update([Detection("cone", 0.9, 10, 10, 50, 90)], stamps[0])[0].track_id == "2"


def test_a_name_stays_within_its_label() -> None:
    tracker = Tracker()
    (cone,) = tracker.update([Detection("cone", 0.9, 0, 0, 20, 40)], 0)
    (ball,) = tracker.update([Detection("ball", 0.9, 0, 0, 20, 40)], SECOND)
    assert cone.track_id != ball.track_id


coordinate = st.floats(0, 640, width=32)
boxes = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 1, max(b[1], b[3]) + 1)
)
detection = st.builds(
    lambda label, box: Detection(label, 0.5, *box), st.sampled_from(["cone", "ball"]), boxes
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(detection, max_size=6), st.integers(-SECOND, 3 * SECOND)), max_size=12))
def test_every_detection_gets_a_name_of_its_own(frames: list[tuple[list[Detection], int]]) -> None:
    tracker, again = Tracker(), Tracker()
    stamp = 0
    for found, passed in frames:
        stamp += passed
        tracked = tracker.update(found, stamp)
        names = [d.track_id for d in tracked]
        assert all(names)
        assert len(set(names)) == len(found)
        assert again.update(found, stamp) == tracked


def test_a_box_that_shrinks_to_nothing_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker()
    for number, side in enumerate((90.0, 50.0, 10.0)):
        box = (100 - side, 100 - side, 100 + side, 100 + side)
        tracker.update([Detection("ball", 0.9, *box)], number * SECOND)
    # By now its prediction is inside out.
    tracker.update([Detection("ball", 0.9, 300.0, 300.0, 320.0, 320.0)], 3 * SECOND)
    assert not caplog.records


def test_norfair_is_loaded_by_those_who_track_alone() -> None:
    code = "import sys, argus_ros.core.tracking; print('norfair' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
