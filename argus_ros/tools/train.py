"""`argus train`: train a checkpoint on scenes, COCO data or both; interrupted, the same command goes on.

With ``--base`` training starts from a checkpoint's weights, whatever classes, bins and tile the new one has.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from argus_ros.core.protocol import EngineConfig
from argus_ros.core.types import Task
from argus_ros.tools import evaluate
from argus_ros.tools.accuracy import Accuracy
from argus_ros.training import coco
from argus_ros.training.loop import train
from argus_ros.training.plan import Plan
from argus_ros.vlm.engine.native import Engine

#: Pictures that the F1 of the curves is measured on, and number of the first scene of these.
MEASURED, FIRST = 100, 1_000_000
MEASURED_PHOTOGRAPHS = 200
#: A plan with the defaults of the arguments.
DEFAULTS = Plan(Path("out/argus-nano"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_model_arguments(parser)
    _add_data_arguments(parser)
    _add_scene_arguments(parser)
    _add_course_arguments(parser)


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Where training starts, and where its results go."""
    parser.add_argument(
        "--out", type=Path, default=DEFAULTS.out, help="folder for the state, log, curves and checkpoint"
    )
    parser.add_argument("--base", help="checkpoint to start from: a shipped name or a folder")
    parser.add_argument("--tile", type=int, default=0, help="side of the input in pixels; 0: as the base has")
    parser.add_argument("--bins", type=int, default=0, help="location bins per axis; 0: as the base has")
    parser.add_argument(
        "--vision-layers",
        type=int,
        default=0,
        help="of the vision encoder, at least the base's; 0: as the base has",
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Pictures with boxes, what is learnt from them, and a teacher."""
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        help="train on COCO data: its instances.json; repeatable",
    )
    parser.add_argument(
        "--images", type=Path, action="append", default=[], help="folder of the pictures, one for each --data"
    )
    parser.add_argument(
        "--weight",
        type=float,
        action="append",
        default=[],
        help="how often a --data is shown beside the others, one for each; default 1",
    )
    parser.add_argument(
        "--classes", help="of --data, the categories to learn, comma-separated; without it all of them"
    )
    parser.add_argument(
        "--max-objects",
        type=int,
        default=0,
        metavar="N",
        help="of --data, most objects in an answer, the largest first; 0: as many as the fullest picture has",
    )
    parser.add_argument(
        "--holdout",
        metavar="REGEX",
        help="of --data, file names that this expression is found in are measured and not trained on",
    )
    parser.add_argument(
        "--min-side",
        type=float,
        default=0.0,
        metavar="PX",
        help="of --data, objects with a smaller side (in pixels of a whole picture) are not taught",
    )
    parser.add_argument(
        "--freeze-vision",
        action="store_true",
        help="train the connector and the decoder alone; the vision encoder stays as --base has it",
    )
    parser.add_argument(
        "--presume-absent",
        action="store_true",
        help="of --data that is labelled in part: teach that an object without a box is absent",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="FILE",
        help="teach the vision encoder the feature maps of this ONNX detector",
    )
    parser.add_argument(
        "--teacher-layers", default="", metavar="NAMES", help="of --teacher, the maps, comma-separated"
    )


def _add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """How synthetic scenes take part."""
    parser.add_argument(
        "--scenes",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="how often a synthetic scene is shown beside --data; default 0: never",
    )
    parser.add_argument(
        "--lit", type=Path, metavar="FILE", help="take some objects from this bank that `argus lit` rendered"
    )


def _add_course_arguments(parser: argparse.ArgumentParser) -> None:
    """How long and how fast training goes, and which part of the model is trained."""
    parser.add_argument("--samples", type=int, default=DEFAULTS.samples, help="pictures to train on in all")
    parser.add_argument("--batch", type=int, default=DEFAULTS.batch, help="pictures per step")
    parser.add_argument("--lr", type=float, default=DEFAULTS.lr, help="learning rate before it falls")
    parser.add_argument(
        "--decay",
        type=float,
        default=DEFAULTS.decay,
        metavar="SHARE",
        help="share of the samples, at the end, over which the learning rate falls to zero",
    )
    parser.add_argument("--seed", type=int, default=DEFAULTS.seed, help="of the weights and the pictures")
    parser.add_argument(
        "--processes",
        type=int,
        default=DEFAULTS.processes,
        help="that share a batch; 0: one on a GPU, else up to one per core",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default=DEFAULTS.precision,
        help="of the passes; auto: bfloat16 where the device multiplies faster in it",
    )
    parser.add_argument(
        "--whole-boxes",
        action="store_true",
        help="also learn a head that guesses a box's places at once (recipe box_draft)",
    )
    parser.add_argument(
        "--only-whole-boxes",
        action="store_true",
        help="learn nothing but that head, for the model of --base, which stays as it is",
    )


def plan_from(options: argparse.Namespace) -> Plan:
    """The plan that the command line describes. Raises ValueError with what is wrong."""
    weights = options.weight or [1.0] * len(options.data)
    if not len(options.data) == len(options.images) == len(weights):
        raise ValueError(
            f"{len(options.data)} --data, {len(options.images)} --images and {len(weights)} --weight: "
            "give each instances.json the folder of its pictures, and each or none a weight"
        )
    if any(weight <= 0 for weight in weights):
        raise ValueError("a --weight has to be greater than 0; leave out what is not to be shown")
    if options.only_whole_boxes and (
        not options.base or options.tile or options.bins or options.vision_layers
    ):
        raise ValueError("--only-whole-boxes needs --base, and no --tile, --bins or --vision-layers")
    if options.freeze_vision and (
        not options.base or options.tile or options.vision_layers or options.teacher
    ):
        raise ValueError("--freeze-vision needs --base, and no --tile, --vision-layers or --teacher")
    if not 0 < options.decay <= 1:
        raise ValueError(f"--decay {options.decay:g} is no share of the samples; take more than 0, at most 1")
    return Plan(
        out=options.out,
        samples=options.samples,
        batch=options.batch,
        lr=options.lr,
        decay=options.decay,
        seed=options.seed,
        processes=options.processes,
        base=options.base or "",
        tile=options.tile,
        bins=options.bins,
        vision_layers=options.vision_layers,
        most_objects=options.max_objects,
        data=tuple(map(coco.Files, options.data, options.images, weights)),
        classes=tuple(c.strip() for c in options.classes.split(",")) if options.classes else (),
        scenes=options.scenes,
        holdout=options.holdout or "",
        min_side=options.min_side,
        freeze_vision=options.freeze_vision,
        presume_absent=options.presume_absent,
        precision=options.precision,
        whole_boxes=options.whole_boxes or options.only_whole_boxes,
        only_whole_boxes=options.only_whole_boxes,
        lit=options.lit,
        teacher=options.teacher,
        teacher_layers=tuple(filter(None, options.teacher_layers.split(","))),
    )


def run(options: argparse.Namespace) -> int:
    plan = plan_from(options)
    measure = None if plan.data and not plan.holdout else Examination(plan)
    if measure:
        next(measure.samples())  # what is wrong with the pictures is said now
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("samples", total=plan.samples, state="starting")
        f1 = ""

        def report(entry: dict[str, float]) -> None:
            nonlocal f1
            f1 = f"  F1 {entry['f1']:.2f}" if "f1" in entry else f1
            state = "dense {dense:.3f}  answer {answer:.3f}  {samples_per_second:.0f}/s".format(**entry)
            progress.update(bar, completed=entry["samples"], state=state + f1)

        try:
            folder = train(plan, report, measure)
        except KeyboardInterrupt:
            progress.stop()
            print("interrupted; the same command goes on from the last save", file=sys.stderr)
            return 130
    plot(plan.out)
    print(f"checkpoint in {folder}; measure it with: argus evaluate --checkpoint {folder}{_source(plan)}")
    return 0


def _source(plan: Plan) -> str:
    """The arguments that evaluate needs for the same kind of pictures."""
    if not plan.data:
        return ""
    only = f" --only '{plan.holdout}'" if plan.holdout else ""
    return f" --data {plan.data[0].instances} --images {plan.data[0].images}{only}"


@dataclass(frozen=True)
class Examination:
    """Measures the F1 of a checkpoint on a few pictures that the plan does not train on."""

    plan: Plan

    def samples(self) -> Iterator[evaluate.Sample]:
        if not self.plan.data:
            return evaluate.from_scenes(MEASURED, FIRST, "val")
        held = [
            picture
            for files in self.plan.data
            for picture in coco.read(
                files.instances, files.images, only=self.plan.holdout, classes=self.plan.classes
            ).pictures
        ]
        chosen = np.unique(np.linspace(0, len(held) - 1, MEASURED_PHOTOGRAPHS).astype(int))
        return evaluate.from_pictures([held[i] for i in chosen])

    def __call__(self, folder: Path) -> float:
        engine = Engine(EngineConfig(checkpoint=str(folder)))
        accuracy = Accuracy(engine.info.classes, self.plan.min_side)
        for sample in self.samples():
            asked = sample.asked(engine.info.classes)
            if asked:
                found = evaluate.ask(engine, sample.image, Task("detect", asked)).detections
                accuracy.add(found, evaluate.truths_of(sample, self.plan.min_side, asked))
        return accuracy.whole.f1


def plot(folder: Path) -> None:
    """Draw the losses and the F1 over the samples into ``curves.png``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    log = folder / "log.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    figure, (losses, f1) = pyplot.subplots(2, sharex=True, figsize=(8, 6), layout="constrained")
    for name in ("dense", "answer"):
        known = [e for e in entries if e[name]]
        losses.plot([e["samples"] for e in known], [e[name] for e in known], label=f"{name} loss")
    measured = [e for e in entries if "f1" in e]
    f1.plot([e["samples"] for e in measured], [e["f1"] for e in measured], "o-", label="F1")
    f1.set_ylim(0, 1)
    f1.set_xlabel("samples")
    for axes in (losses, f1):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(folder / "curves.png", dpi=100)
    pyplot.close(figure)
