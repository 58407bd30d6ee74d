"""What the demo makes of answers: the bag keeps the truth, and the summary counts by it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from argus_ros.core.depth import decode_depth
from argus_ros.core.image import Image
from argus_ros.core.lens import Lens
from argus_ros.core.matching import Truth
from argus_ros.core.space import locate
from argus_ros.core.types import Detection
from argus_ros.tools import camera_bag, demo
from argus_ros.tools.bag import Bag, stamp_ns
from argus_ros.tools.camera_bag import Picture
from argus_ros.tools.demo import Record, position_errors, score, summarise
from argus_ros.training.scenes.film import Walk, film

WALK = Walk(seed=3, seconds=1.0, rate=5.0, width=160, height=120)
CAR = Truth("car", (0.0, 0.0, 40.0, 20.0))
HALF_HIDDEN = Truth("box", (50.0, 0.0, 70.0, 20.0))
PICTURE = Picture(0, b"", (CAR,), (HALF_HIDDEN,))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "camera_bag"
    assert camera_bag.write(folder, {"front": WALK}) == 5
    return folder


def test_the_bag_holds_the_film_and_its_truth(bag: Path) -> None:
    pictures = list(camera_bag.read(bag, "front"))
    shots = list(film(WALK))
    assert len(pictures) == len(shots) == 5
    for picture, shot in zip(pictures, shots, strict=True):
        assert abs(picture.rgb().astype(int) - shot.image).mean() < 6  # JPEG
        assert [t.description for t in picture.truths] == [
            f"{s.colour} {s.label}" for s in shot.seen if s.counts
        ]
        assert len(picture.ignored) == sum(not s.counts for s in shot.seen)
        assert picture.places == tuple(s.position for s in shot.seen if s.counts)
    assert [p.stamp_ns - camera_bag.START_NS for p in pictures] == [i * 200_000_000 for i in range(5)]


def test_the_time_to_the_first_boxes_counts_from_make() -> None:
    record = Record()
    empty = {"header": {"stamp": {"sec": 1, "nanosec": 0}}, "detections": []}
    record.hear("detections", empty)
    assert record.boxes_at == 0.0
    record.hear("detections", {**empty, "detections": [{"label": "cone"}]})
    assert record.boxes_at > 0.0
    assert demo.first_boxes(100.0, 91.4, "") == "first boxes 0 min 09 s after the start"
    assert demo.first_boxes(100.0, 91.4, "30") == "first boxes 1 min 10 s after the start, set-up included"


def test_depth_and_the_lens_say_where_things_are(bag: Path) -> None:
    """As the node makes positions of them, with the true boxes."""
    topics = (camera_bag.depth_topic("front"), camera_bag.info_topic("front"))
    with Bag(bag) as opened:
        assert list(opened.cameras()) == [camera_bag.image_topic("front")], "depth is no camera"
        heard = {(topic, stamp_ns(m.header)): m for topic, _, m in opened.messages(topics)}
    errors = []
    for picture in camera_bag.read(bag, "front"):
        depth, info = (heard[topic, picture.stamp_ns] for topic in topics)
        assert depth.header.frame_id == info.header.frame_id == "front_optical_frame"
        lens = Lens.of(info, (160, 120))
        boxes = [truth.box for truth in picture.truths]
        found = locate(boxes, (160, 120), lens, decode_depth(Image.of(depth)))
        detections = [Detection(t.label, 0.9, *t.box) for t in picture.truths]
        places = [{"pose": {"position": dict(zip("xyz", p.position, strict=True))}} for p in found]
        errors += position_errors(detections, places, picture)
    assert len(errors) >= 5
    assert np.median(errors) < 0.05


def test_a_find_without_a_position_counts_for_none() -> None:
    picture = replace(PICTURE, places=((0.0, 0.0, 4.0),))
    car = [Detection("car", 0.9, *CAR.box)]
    (error,) = position_errors(car, [{"pose": {"position": {"x": 0.0, "y": 0.3, "z": 4.4}}}], picture)
    assert error == pytest.approx(0.125)
    assert not list(position_errors(car, [{"pose": {"position": dict.fromkeys("xyz", np.nan)}}], picture))
    assert not list(position_errors([], [], picture))


def test_the_same_film_makes_the_same_bag(bag: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    camera_bag.write(again, {"front": WALK})
    assert list(camera_bag.read(again, "front")) == list(camera_bag.read(bag, "front"))


def test_a_bag_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no bag"):
        list(camera_bag.read(tmp_path / "nothing", "front"))


def answer(picture: Picture, latency: float, found: list[Truth]) -> dict[str, Any]:
    detections = [
        {
            **dict(zip(("x_min", "y_min", "x_max", "y_max"), t.box, strict=True)),
            **{"label": t.label, "score": 0.9, "description": "", "track_id": ""},
        }
        for t in found
    ]
    stamp = dict(zip(("sec", "nanosec"), divmod(picture.stamp_ns, 1_000_000_000), strict=True))
    return {
        **{"header": {"stamp": stamp}, "camera": "front", "detections": detections},
        **{"latency": latency, "age": latency + 0.05},
    }


def test_the_summary_counts_answers_drops_and_what_was_lost(bag: Path) -> None:
    pictures = list(camera_bag.read(bag, "front"))
    record = Record()
    record.hear("detections", answer(pictures[0], 0.1, list(pictures[0].truths)))
    record.hear("detections", answer(pictures[2], 0.3, []))
    for outcome in (0, 0, 1):
        record.hear("timing", {"outcome": outcome})
    summary = summarise(bag, {"front": record}, {"front": 5, "rear": 4})
    front, rear = summary.pop("cameras").values()
    assert front.pop("age_max") == pytest.approx(0.35)
    assert front == {
        **{"frames_sent": 5, "frames_processed": 2, "dropped": {"superseded": 1, "lost": 2}},
        "latency": summary["latency"],
    }
    assert rear["dropped"] == {"lost": 4}
    assert summary["frames_sent"] == 9
    assert summary["frames_processed"] == 2
    assert summary["dropped"] == {"superseded": 1, "lost": 6}
    assert summary["latency"]["max"] == 0.3
    assert summary["precision"] == 1.0
    assert summary["position"] == {"placed": 0, "error": None}
    expected = len(pictures[0].truths) / (len(pictures[0].truths) + len(pictures[2].truths))
    assert summary["recall"] == pytest.approx(expected)


def test_nothing_heard_is_a_summary_too(bag: Path) -> None:
    summary = summarise(bag, {}, {"front": 5})
    assert summary["frames_processed"] == 0
    assert summary["dropped"] == {"lost": 5}


def test_a_find_of_what_is_half_hidden_is_neither_hit_nor_false_alarm() -> None:
    found = [Detection(t.label, 0.9, *t.box) for t in (CAR, HALF_HIDDEN)]
    counts = score(found, PICTURE)
    assert (counts.hits, counts.false_alarms, counts.misses) == (1, 0, 0)
    wrong = score([Detection("ball", 0.9, *HALF_HIDDEN.box)], PICTURE)
    assert (wrong.hits, wrong.false_alarms, wrong.misses) == (0, 1, 1)


def test_video_and_log_are_written(bag: Path, tmp_path: Path) -> None:
    pictures = list(camera_bag.read(bag, "front"))
    record = Record()
    record.hear("detections", answer(pictures[0], 0.1, list(pictures[0].truths)))
    demo.write(tmp_path, bag, {"front": record}, summarise(bag, {"front": record}, {"front": 5}), 5.0)
    assert (tmp_path / "front.mp4").stat().st_size > 1000
    assert (tmp_path / "front.png").exists()
    assert len((tmp_path / "detections.jsonl").read_text().splitlines()) == 1
