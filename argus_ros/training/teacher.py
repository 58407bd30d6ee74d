"""A detector in ONNX's format as a teacher: boxes for pictures without labels.

Detectors of the DETR family as their authors export them (RT-DETR, D-FINE, DEIM): inputs ``images`` (N, 3,
height, width) float32 RGB in [0, 1] and ``orig_target_sizes`` (N, 2) int64 width and height, outputs
``labels``, ``boxes`` (N, queries, 4) in pixels of the picture, and ``scores``. Needs onnxruntime:
``pip install 'argus-ros[label]'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

INPUTS = ("images", "orig_target_sizes")
OUTPUTS = ("labels", "boxes", "scores")

#: COCO's names in the order of its 80 labels, of which two are named as this package's own classes are.
COCO_NAMES = tuple(
    " ".join(name.split())
    for name in """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
    stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
    backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, ball, kite, baseball bat,
    baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon,
    bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch,
    potted plant, bed, table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven,
    toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush
    """.split(",")  # noqa: SIM905
)


class TeacherError(ValueError):
    """A file that is no detector of the kind that is understood, or a library that is missing."""


@dataclass(frozen=True)
class Found:
    label: str
    box: tuple[float, float, float, float]  #: x_min, y_min, x_max, y_max in pixels of the picture
    score: float


class Teacher:
    """An ONNX detector on the CPU."""

    def __init__(self, file: Path, names: Sequence[str] = COCO_NAMES, threads: int = 0) -> None:
        """``names`` are those of its labels, in their order. Raises TeacherError."""
        try:
            import onnxruntime
        except ImportError:
            raise TeacherError("a teacher needs onnxruntime: pip install 'argus-ros[label]'") from None
        if not file.is_file():
            raise TeacherError(f"{file} is missing")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class of its own for each kind of bad file
            raise TeacherError(f"{file} cannot be loaded: {str(error).splitlines()[0]}") from None
        shapes = {i.name: i.shape for i in self._session.get_inputs()}
        known = {o.name for o in self._session.get_outputs()}
        if not (set(INPUTS) <= set(shapes) and set(OUTPUTS) <= known):
            raise TeacherError(
                f"{file} has inputs {', '.join(shapes)} and outputs {', '.join(sorted(known))}; wanted are "
                f"{', '.join(INPUTS)} and {', '.join(OUTPUTS)}"
            )
        size = shapes[INPUTS[0]][2:]
        self._size = tuple(n if isinstance(n, int) else 640 for n in size)
        self._names = tuple(names)

    def look(self, image: np.ndarray) -> list[Found]:
        """What is on a picture (height, width, 3) uint8 RGB. Raises TeacherError for a label without name."""
        height, width = image.shape[:2]
        small = cv2.resize(image, (self._size[1], self._size[0]), interpolation=cv2.INTER_LINEAR)
        pixels = np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32) / 255
        sizes = np.array([[width, height]], np.int64)
        out = self._session.run(OUTPUTS, dict(zip(INPUTS, (pixels, sizes), strict=True)))
        found = []
        for label, box, score in zip(*(array[0] for array in out), strict=True):
            if not 0 <= label < len(self._names):
                raise TeacherError(f"label {label} has no name: {len(self._names)} names are given")
            x0, y0, x1, y1 = map(float, box)
            found.append(Found(self._names[int(label)], (x0, y0, x1, y1), float(score)))
        return found
