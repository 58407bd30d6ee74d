"""What to train, for how long, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from argus_ros.training import coco
from argus_ros.vlm.models import blank


@dataclass(frozen=True)
class Plan:
    """What to train, for how long, and where it goes."""

    out: Path
    samples: int = 200_000
    batch: int = 64  #: per step, over all processes
    lr: float = 2e-3
    decay: float = 0.3  #: share of the samples, at the end, over which the rate falls to zero
    vision_first: int = 20_000  #: samples on which only the dense loss is trained, without a base
    heads_first: int = 3000  #: samples before the dense heads, random at first, teach a base's encoder
    seed: int = 0
    processes: int = 0  #: that share a batch; 0: one on a GPU, else up to one per core
    shape: blank.Shape = blank.NANO  #: of a model that starts from nothing
    base: str = ""  #: a checkpoint to start from, by name or folder
    tile: int = 0  #: side of the input in pixels; 0: the base's, or the shape's
    bins: int = 0  #: location bins; 0: the base's, or 128
    vision_layers: int = 0  #: of the vision encoder; 0: the base's, or the shape's
    most_objects: int = 0  #: in an answer, learning from ``data``; 0: as many as its fullest picture has
    data: tuple[coco.Files, ...] = ()  #: COCO data to train on
    classes: tuple[str, ...] = ()  #: of ``data``: the categories to learn; none: all
    scenes: float = 0.0  #: weight of synthetic scenes beside ``data``; without ``data`` there is nothing else
    holdout: str = ""  #: pictures whose file name this regular expression is found in are not trained on
    min_side: float = 0.0  #: of ``data``: smaller objects are not taught, in pixels of a whole picture
    freeze_vision: bool = False  #: the vision encoder stays as the base has it; no dense loss
    presume_absent: bool = False  #: in an answer, an object without a box is absent, complete or not
    teacher: Path | None = None  #: an ONNX detector whose feature maps the vision encoder is taught
    teacher_layers: tuple[str, ...] = ()  #: the names of these maps
    lit: Path | None = None  #: bank of sprites that some objects of the scenes are taken from
    repeat: int = 0  #: only so many synthetic scenes, again and again, to see that a model can learn them
    precision: str = "auto"  #: of the passes: float32, bfloat16, or auto: bfloat16 where that is faster
    save_seconds: float = 120.0
    report_steps: int = 50  #: steps between two entries of the log
    measure_samples: int = 10_000  #: between two measurements of the checkpoint
    whole_boxes: bool = False  #: also learn a head that guesses a box's places at once
    only_whole_boxes: bool = False  #: learn nothing else: the rest stays as the base has it
    stop_after: int = 0  #: end early at this many samples, to be resumed; 0: go on to the end


def learning_rate(plan: Plan, seen: int) -> float:
    """Warm-up over one sample in a hundred, at least 3,000; constant, then linear to zero."""
    decay = min(1.0, (plan.samples - seen) / (plan.decay * plan.samples))
    return plan.lr * min(1.0, (seen + plan.batch) / max(3000, 0.01 * plan.samples)) * max(decay, 0.0)
