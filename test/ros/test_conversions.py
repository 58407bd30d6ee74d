"""Messages to words and back, without a node."""

from __future__ import annotations

import array
from types import SimpleNamespace

import numpy as np
import pytest
from argus_ros.msg import DetectionArray, FrameTiming
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header

from argus_ros.core.image import Image, decode
from argus_ros.core.types import Answer, Detection, Outcome, StageTimes, Status, Task
from argus_ros.ros import conversions


@pytest.fixture
def header() -> Header:
    header = Header(frame_id="front camera, optical frame \N{SNOWMAN}")
    header.stamp.sec, header.stamp.nanosec = -3, 999_999_999
    return header


ANSWER = Answer(
    detections=(
        Detection("cone", 0.9, 1.5, 2.5, 10.25, 20.0, "red cone", "7"),
        Detection("box", 0.1, 0.0, 0.0, 640.0, 480.0),
    ),
    text="two objects",
    status=Status.TRUNCATED,
    visual_tokens=25,
    generated_tokens=11,
    decode_passes=6,
    drafted_tokens=4,
    accepted_tokens=3,
    dropped=2,
)


def sent(message: object) -> object:
    """As another process receives it."""
    return deserialize_message(serialize_message(message), type(message))


def array_of(header: Header, answer: Answer = ANSWER) -> DetectionArray:
    return conversions.to_detections(
        header, "front", (640, 480), answer, answer.detections,
        model="argus-nano", task=Task("detect"), latency=0.04, age=0.05,
    )  # fmt: skip


def test_the_stamp_in_nanoseconds(header: Header) -> None:
    assert conversions.stamp_ns(header) == -2_000_000_001


def test_an_answer_arrives_whole(header: Header) -> None:
    message = sent(array_of(header))
    assert serialize_message(message.header) == serialize_message(header)
    assert (message.camera, message.image_width, message.image_height) == ("front", 640, 480)
    assert (message.model, message.task, message.text) == ("argus-nano", "detect", "two objects")
    assert message.status == DetectionArray.TRUNCATED
    assert (message.latency, message.age) == (pytest.approx(0.04), pytest.approx(0.05))
    cone, box = message.detections
    assert (cone.label, cone.description, cone.track_id) == ("cone", "red cone", "7")
    assert cone.score == pytest.approx(0.9)
    assert (cone.x_min, cone.y_min, cone.x_max, cone.y_max) == (1.5, 2.5, 10.25, 20.0)
    assert box.track_id == ""


def test_no_detections_are_an_empty_array(header: Header) -> None:
    assert sent(array_of(header, Answer())).detections == []


def test_numpy_numbers_are_accepted(header: Header) -> None:
    numbers = [np.float32(x) for x in (0.5, 1, 2, 3, 4)]
    assert array_of(header, Answer((Detection("cone", *numbers),))).detections[0].x_max == 3.0


def test_timing_has_every_stage_and_count(header: Header) -> None:
    seconds = {name: float(i + 1) for i, name in enumerate(StageTimes.__dataclass_fields__)}
    message = sent(
        conversions.to_timing(
            header, "front", Outcome.WITHHELD, StageTimes(**seconds), level=2, answer=ANSWER
        )
    )
    assert message.header == header
    assert message.outcome == FrameTiming.WITHHELD
    assert {name: getattr(message, name) for name in seconds} == seconds
    counts = ("visual_tokens", "generated_tokens", "decode_passes", "drafted_tokens", "accepted_tokens")
    assert [getattr(message, name) for name in counts] == [25, 11, 6, 4, 3]
    assert message.dropped_boxes == 2
    assert message.level == 2


def test_a_frame_that_did_not_run_has_a_timing(header: Header) -> None:
    message = sent(conversions.to_timing(header, "front", Outcome.STALE, StageTimes(wait=0.1)))
    assert (message.outcome, message.generated_tokens) == (FrameTiming.STALE, 0)


def test_an_image_is_viewed_in_place() -> None:
    message = ImageMessage(height=4, width=2, encoding="rgb8", step=6, data=array.array("B", range(24)))
    pixels = decode(Image.of(message)).array
    message.data[5] = 200
    assert pixels[0, 1, 2] == 200
    assert np.shares_memory(pixels, np.frombuffer(message.data, np.uint8))


def test_a_compressed_image_is_viewed_in_place() -> None:
    message = CompressedImage(format="jpeg", data=array.array("B", range(24)))
    assert Image.of(message).data is message.data


def test_a_picture_becomes_an_image_and_a_jpeg(header: Header) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = (200, 40, 0)
    raw = sent(conversions.to_image(header, picture[:, ::-1][:, ::-1]))
    assert np.array_equal(decode(Image.of(raw)).rgb(), picture)
    jpeg = sent(conversions.to_jpeg(header, picture))
    assert jpeg.header == header
    assert np.abs(decode(Image.of(jpeg)).rgb().astype(int) - picture).mean() < 2


def test_vision_messages(header: Header, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fields of vision_msgs 4 where it is not installed."""
    if conversions.vision_messages is None:

        def detection(**given: object) -> SimpleNamespace:
            position = SimpleNamespace(x=0.0, y=0.0)
            box = SimpleNamespace(center=SimpleNamespace(position=position), size_x=0.0, size_y=0.0)
            return SimpleNamespace(bbox=box, results=[], **given)

        fake = SimpleNamespace(
            Detection2DArray=lambda **given: SimpleNamespace(detections=[], **given),
            Detection2D=detection,
            ObjectHypothesisWithPose=lambda: SimpleNamespace(hypothesis=SimpleNamespace()),
        )
        monkeypatch.setattr(conversions, "vision_messages", fake)
    message = conversions.to_vision(array_of(header))
    cone = message.detections[0]
    assert message.header == header
    assert cone.id == "7"
    assert (cone.bbox.center.position.x, cone.bbox.center.position.y) == (5.875, 11.25)
    assert (cone.bbox.size_x, cone.bbox.size_y) == (8.75, 17.5)
    assert cone.results[0].hypothesis.class_id == "cone"
