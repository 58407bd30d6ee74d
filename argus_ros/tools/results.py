"""Writes the results of a bag's frames: logs, a bag of the detections, a video per camera.

``detections.jsonl`` has the detections without times, so that the same engine on the same bag writes the same
bytes; times are in ``timing.jsonl``. Both have one line per frame, in the order of the bag.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from argus_ros.core.drawing import draw
from argus_ros.core.types import Answer, Outcome, StageTimes, Status
from argus_ros.tools.bag import Frame, type_store
from argus_ros.tools.video import Video

DETECTIONS = "argus_ros/msg/DetectionArray"
TOPIC = "/argus/detections"
#: Decimal digits of boxes (pixels), scores and seconds.
BOX_DIGITS, SCORE_DIGITS, TIME_DIGITS = 2, 4, 6


@dataclass(frozen=True)
class Result:
    """The outcome of one frame, with its answer."""

    outcome: str  #: name of an ``Outcome`` in lower case, or ``lost`` between player and node
    reason: str = ""
    answer: Answer | None = None  #: with the published detections
    size: tuple[int, int] = (0, 0)  #: width and height in pixels; zeros where it was not decoded
    times: StageTimes = field(default_factory=StageTimes)
    age: float | None = None  #: age in seconds at publication; None offline


LOST = Result("lost", "it did not arrive at the node")
#: Explanations of outcomes without an answer; other outcomes are clear from their names.
MEANINGS = {
    "superseded": "a newer image of its camera arrived before it ran",
    "stale": "it could not meet its deadline, so it was not run",
    "rate_limited": "it exceeded its camera's rate cap",
    "withheld": "its answer was ready after the deadline, and was not published",
    "engine_down": "the model was not loaded, or its process had ended",
    "disabled": "the node was paused by its service ~/enable",
    "lost": "it did not arrive at the node",
}
PUBLISHED = Outcome.PUBLISHED.name.lower()


def line_of(frame: Frame, result: Result, task: str) -> dict[str, Any]:
    """A frame's line of ``detections.jsonl``."""
    assert result.answer is not None
    return {
        "camera": frame.camera,
        "stamp": frame.stamp,
        "width": result.size[0],
        "height": result.size[1],
        "task": task,
        "status": result.answer.status.name,
        "text": result.answer.text,
        "detections": [
            {
                name: round(value, SCORE_DIGITS if name == "score" else BOX_DIGITS)
                if isinstance(value, float)
                else value
                for name, value in asdict(detection).items()
            }
            for detection in result.answer.detections
        ],
    }


class Results:
    """The output folder of a run, written frame by frame; a context manager.

    ``rates`` are frames per second of each camera, for its video. Results of an earlier run are replaced.
    Raises ValueError where another file is in the way.
    """

    def __init__(self, folder: Path, *, model: str, task: str, rates: dict[str, float]) -> None:
        self.folder = folder
        self._model, self._task, self._rates = model, task, rates
        self._stack = ExitStack()
        self._store = type_store()
        self._videos: dict[str, Video] = {}

    def __enter__(self) -> Results:
        bag = self.folder / "bag"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (bag / "metadata.yaml").exists():  # of an earlier run
                shutil.rmtree(bag)
        except OSError as error:
            raise ValueError(f"{self.folder} cannot be written to: {error}") from None
        if bag.exists():
            raise ValueError(f"{bag} exists and is not a bag of an earlier run; choose another --out")
        self._detections = self._stack.enter_context((self.folder / "detections.jsonl").open("w"))
        self._timing = self._stack.enter_context((self.folder / "timing.jsonl").open("w"))
        self._bag = self._stack.enter_context(Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP))
        self._topic = self._bag.add_connection(TOPIC, DETECTIONS, typestore=self._store)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, frame: Frame, result: Result, picture: np.ndarray | None) -> None:
        """Write a frame; detections are drawn into ``picture`` (height, width, 3) uint8 RGB or None."""
        timing = {
            "camera": frame.camera,
            "stamp": frame.stamp,
            "outcome": result.outcome,
            "reason": result.reason,
            "age": None if result.age is None else round(result.age, TIME_DIGITS),
            **{name: round(value, TIME_DIGITS) for name, value in asdict(result.times).items()},
        }
        self._timing.write(json.dumps(timing) + "\n")
        if result.answer:
            line = line_of(frame, result, self._task)
            self._detections.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._bag.write(
                self._topic,
                frame.received,
                self._store.serialize_cdr(self._message(frame, result), DETECTIONS),
            )
        if picture is not None:
            annotate(picture, result)
            self._film(frame.camera, picture)

    def _film(self, camera: str, picture: np.ndarray) -> None:
        if camera not in self._videos:
            video = Video(self.folder / f"{camera}.mp4", self._rates[camera])
            self._videos[camera] = self._stack.enter_context(video)
        self._videos[camera].write(picture)

    def _message(self, frame: Frame, result: Result) -> Any:
        types, answer = self._store.types, result.answer
        assert answer is not None
        stamp = types["builtin_interfaces/msg/Time"](*divmod(frame.stamp, 1_000_000_000))
        age = result.age or 0.0  # None offline, where latency is undefined, too
        return types[DETECTIONS](
            header=types["std_msgs/msg/Header"](stamp, frame.frame_id),
            camera=frame.camera,
            image_width=result.size[0],
            image_height=result.size[1],
            model=self._model,
            task=self._task,
            text=answer.text,
            status=int(answer.status),
            latency=result.times.total if age else 0.0,
            age=age,
            detections=[types["argus_ros/msg/Detection"](**asdict(d)) for d in answer.detections],
        )


def annotate(picture: np.ndarray, result: Result) -> None:
    """Draw the detections, or why there are none, into a picture (height, width, 3) uint8 RGB."""
    if result.answer is None:
        draw(picture, (), f"{result.outcome.replace('_', ' ')}: {result.reason}".rstrip(": "))
        return
    said = result.answer.text or f"{1e3 * result.times.total:.0f} ms"
    status = "" if result.answer.status is Status.OK else f" {result.answer.status.name.lower()}"
    draw(picture, result.answer.detections, said + status)
