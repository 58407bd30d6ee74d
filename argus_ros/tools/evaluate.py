"""`argus evaluate`: the accuracy of a checkpoint, on unseen scenes or on pictures with boxes.

An object with a side (of a square as large as its box) below ``--min-side`` pixels is ignored: neither a hit
when it is detected nor a miss when it is not. As in COCO's measure, a false alarm of that size is also
ignored.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from argus_ros.core.image import Image
from argus_ros.core.matching import Truth, match
from argus_ros.core.preparation import fill
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Answer, Detection, Task
from argus_ros.tools.accuracy import Accuracy, calibration_error, fit_temperature, side
from argus_ros.tools.accuracy import figures as figures_of
from argus_ros.tools.gallery import Gallery
from argus_ros.tools.machine import describe
from argus_ros.training import coco, scenes
from argus_ros.training.examples import answer_to
from argus_ros.training.scenes import SceneObject, sprites
from argus_ros.training.scenes.sprites import Bank
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import prompts


@dataclass(frozen=True)
class Sample:
    """One picture with its objects; ``crowds`` are regions that are not measured."""

    name: str
    image: np.ndarray  #: (height, width, 3) uint8 RGB
    objects: Sequence[SceneObject]
    crowds: Sequence[SceneObject] = ()
    complete: frozenset[str] | None = None  #: classes of which every object is in ``objects``; None: all

    def asked(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The classes that the picture labels completely: only their detections are right or wrong."""
        return tuple(c for c in classes if self.complete is None or c in self.complete)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="argus-nano", help="a shipped name or a folder")
    parser.add_argument("--scenes", type=int, default=1000, help="number of synthetic scenes")
    parser.add_argument("--seed", type=int, default=0, help="number of the first scene")
    parser.add_argument(
        "--split",
        choices=scenes.SPLITS[1:],
        default="val",
        help="val: unseen scenes; heldout: also drawings and backgrounds that training never saw",
    )
    parser.add_argument(
        "--lit", type=Path, metavar="FILE", help="use the objects of this bank from `argus lit`"
    )
    parser.add_argument("--data", type=Path, help="measure on COCO data instead: its instances.json")
    parser.add_argument("--images", type=Path, help="folder of the pictures of --data")
    parser.add_argument(
        "--only", metavar="REGEX", help="with --data: use only file names that match this expression"
    )
    parser.add_argument(
        "--group",
        metavar="REGEX",
        help="with --data: figures for each text that this expression (or its group) matches in a file name",
    )
    parser.add_argument(
        "--min-side", type=float, default=0.0, metavar="PX", help="objects with a smaller side are ignored"
    )
    parser.add_argument("--score", type=float, default=0.0, help="detections with a lower score are left out")
    parser.add_argument(
        "--fit-temperature",
        action="store_true",
        help="fit the temperature of the scores here, write it into the checkpoint, and measure nothing else",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with charts and the worst cases"
    )


def run(options: argparse.Namespace) -> int:
    engine = Engine(EngineConfig(checkpoint=options.checkpoint, device=options.device))
    source: dict[str, Any]
    bank = sprites.load(options.lit) if options.lit else None
    if bank and bank.split == "train":
        raise ValueError(f"{options.lit} is for training; measure with one of val or heldout")
    if options.data or options.images:
        if not (options.data and options.images):
            raise ValueError(
                "--data and --images go together: the instances.json and the folder of its pictures"
            )
        if bank:
            raise ValueError("--lit is for synthetic scenes; leave it out with --data")
        data = coco.read(options.data, options.images, options.only or "")
        classes, samples, count = data.classes, from_pictures(data.pictures), len(data.pictures)
        source = {"data": options.data.name, "only": options.only, "pictures": count}
    else:
        classes, count = scenes.CLASSES, options.scenes
        samples = from_scenes(count, options.seed, options.split, bank)
        source = {"scenes": count, "seed": options.seed, "split": options.split}
        if bank:
            source["lit"] = {"file": options.lit.name, "split": bank.split}
    known = [c for c in classes if c in (engine.info.classes or classes)]
    if not known:
        raise ValueError(
            f"{engine.info.name} does not know any class of the pictures ({', '.join(classes)}); "
            f"its own are {', '.join(engine.info.classes)}"
        )
    if left_out := [c for c in classes if c not in known]:
        names = ", ".join(left_out)
        print(f"not measured, as {engine.info.name} does not know them: {names}", file=sys.stderr)
        source["not_measured"] = left_out
    classes = tuple(known)
    shown = track(samples, "pictures", total=count, transient=True)
    if options.fit_temperature:
        return calibrate(engine, shown, classes, options.min_side)
    gallery = Gallery() if options.html else None
    try:
        group = re.compile(options.group) if options.group else None
    except re.error as error:
        raise ValueError(f"--group {options.group!r} is not a regular expression: {error}") from None
    figures = measure(engine, shown, classes, options.min_side, options.score, options.seed, gallery, group)
    limits = {"min_side": options.min_side, "score": options.score}
    figures = {"checkpoint": engine.info.name, **source, **limits, **figures}
    show(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**describe(), **figures}, indent=2) + "\n")
    if gallery:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(gallery.html(figures, summary(figures)))
    return 0


def from_scenes(count: int, seed: int, split: str, bank: Bank | None = None) -> Iterator[Sample]:
    for number in range(seed, seed + count):
        scene = scenes.render(number, split, (640, 480), bank=bank)
        yield Sample(f"{split} {number}", scene.image, scene.objects)


def from_pictures(pictures: Iterable[coco.Picture]) -> Iterator[Sample]:
    for p in pictures:
        yield Sample(p.file.name, p.load().image, p.objects, p.crowds, p.complete)


def truths_of(sample: Sample, min_side: float, asked: Sequence[str]) -> list[Truth]:
    there = [
        Truth(t.label, t.box, f"{t.colour} {t.label}".strip(), side(t.box) < min_side)
        for t in sample.objects
        if t.label in asked
    ]
    return there + [Truth(t.label, t.box, ignored=True) for t in sample.crowds if t.label in asked]


@dataclass
class Share:
    """The share of right answers."""

    right: int = 0
    asked: int = 0

    def add(self, *outcomes: bool) -> None:
        self.right += sum(outcomes)
        self.asked += len(outcomes)

    @property
    def value(self) -> float | None:
        """None without answers."""
        return self.right / self.asked if self.asked else None


@dataclass
class Unnamed:
    """Detections of a task without classes, on partly labelled pictures."""

    accuracy: Accuracy
    pictures: int = 0
    others: int = 0  #: detections of classes that are not labelled completely, so that they cannot be judged

    def add(self, found: Sequence[Detection], truths: Sequence[Truth], complete: Sequence[str]) -> None:
        known = [d for d in found if d.label in complete]
        self.accuracy.add(known, truths)
        self.others += len(found) - len(known)
        self.pictures += 1

    def figures(self) -> dict[str, Any] | None:
        """None without such pictures."""
        if not self.pictures:
            return None
        others = self.others / self.pictures
        return {**figures_of(self.accuracy.whole), "pictures": self.pictures, "others_per_picture": others}


@dataclass
class Answers:
    """Shares of right answers to tasks other than `detect` with the labelled classes."""

    described: Share = field(default_factory=Share)  #: objects with the right colour and class
    respected: Share = field(default_factory=Share)  #: pictures with detections of requested classes only
    how_many: Share = field(default_factory=Share)
    is_there: Share = field(default_factory=Share)

    def add(
        self,
        engine: Engine,
        sample: Sample,
        asked: Sequence[str],
        truths: Sequence[Truth],
        min_side: float,
        rng: np.random.Generator,
    ) -> None:
        """Run the engine's tasks on one picture."""
        subset = tuple(rng.choice(asked, min(3, len(asked)), replace=False))
        found = ask(engine, sample.image, Task("detect", subset)).detections
        self.respected.add(all(d.label in subset for d in found))
        if "dense_caption" in engine.info.tasks and all(t.description != t.label for t in truths):
            captions = ask(engine, sample.image, Task("dense_caption")).detections
            pairs = [(captions[i], truths[j]) for i, j, _ in match(captions, truths)]
            self.described.add(*(c.description == t.description for c, t in pairs if not t.ignored))
        if "ask" in engine.info.tasks:
            vocabulary = engine.checkpoint.vocabulary
            of_asked = [t for t in sample.objects if t.label in asked]
            certain = [t for t in of_asked if side(t.box) >= min_side]
            colours = vocabulary.colours if vocabulary and all(t.colour for t in of_asked) else ()
            shares = (self.how_many, self.is_there)
            for question, share in zip(questions(rng, asked, colours, certain), shares, strict=True):
                truth = answer_to(question, certain)
                # Questions about ignored objects have no certain answer.
                if truth == answer_to(question, of_asked) and not sample.crowds:
                    share.add(ask(engine, sample.image, Task("ask", prompt=question)).text == truth)

    def figures(self) -> dict[str, Any]:
        return {
            "description_accuracy": self.described.value,
            "subset_respected": self.respected.value,
            "ask": {"how_many": self.how_many.value, "is_there": self.is_there.value},
        }


def measure(
    engine: Engine,
    samples: Iterable[Sample],
    classes: Sequence[str],
    min_side: float = 0.0,
    score: float = 0.0,
    seed: int = 0,
    gallery: Gallery | None = None,
    group: re.Pattern[str] | None = None,
) -> dict[str, Any]:
    """Measure boxes, descriptions, questions, calibration, and whether only requested classes appear.

    With a ``group``, also figures for pictures with the same matched text.
    """
    accuracy = Accuracy(classes, min_side)
    groups: dict[str, Accuracy] = {}
    vocabulary = engine.checkpoint.vocabulary
    bare: list[float] = []  # scores without a temperature
    answers, unnamed = Answers(), Unnamed(Accuracy(classes, min_side))
    for number, sample in enumerate(samples):
        asked = sample.asked(classes)
        if not asked:
            continue
        truths = truths_of(sample, min_side, asked)
        said = detect(engine, sample.image, Task("detect", asked))
        every = said(0.0)
        kept = [i for i, d in enumerate(every) if d.score >= score]
        found = [every[i] for i in kept]
        verdicts = accuracy.add(found, truths)
        if group and (part := group.search(sample.name)):
            key = part[1 if part.re.groups else 0]
            groups.setdefault(key, Accuracy(classes, min_side)).add(found, truths)
        plain = said(1.0)
        bare += [plain[i].score for i, verdict in zip(kept, verdicts, strict=True) if verdict is not None]
        if gallery:
            gallery.add(sample.name, sample.image, found, truths, verdicts)
        answers.add(engine, sample, asked, truths, min_side, np.random.default_rng((seed, number)))
        if vocabulary and vocabulary.classes and set(asked) != set(vocabulary.classes):
            everything = ask(engine, sample.image, Task("detect")).detections
            unnamed.add([d for d in everything if d.score >= score], truths, asked)
    return {
        **accuracy.figures(),
        "unnamed": unnamed.figures(),
        "per_group": {key: counts(groups[key]) for key in sorted(groups)},
        "temperature": vocabulary.temperature if vocabulary else 1.0,
        "ece_without_temperature": calibration_error(bare, accuracy.right),
        **answers.figures(),
    }


def counts(accuracy: Accuracy) -> dict[str, Any]:
    """Figures of a group: of all its objects, and of each of its classes."""
    per_class = {c: figures_of(t) for c, t in accuracy.per_class.items() if t.hits + t.misses}
    return {**figures_of(accuracy.whole), "per_class": per_class}


def questions(
    rng: np.random.Generator, classes: Sequence[str], colours: Sequence[str], objects: Sequence[SceneObject]
) -> tuple[str, str]:
    """A question for a number of objects, and one for a presence; half of them about present classes."""

    def draw() -> tuple[str, str]:
        if objects and rng.random() < 0.5:
            item = objects[int(rng.integers(len(objects)))]
            return item.label, item.colour
        return str(rng.choice(classes)), str(rng.choice(colours)) if colours else ""

    label, _ = draw()
    other, colour = draw()
    return f"how many {prompts.plural(label)} are there", " ".join(f"is there a {colour} {other}".split())


def prepared(engine: Engine, picture: np.ndarray, task: Task) -> tuple[FrameRequest, np.ndarray]:
    """Request and pixels of a picture, prepared like a camera's image."""
    height, width = picture.shape[:2]
    tiling, slot = engine.checkpoint.tiling, np.empty(engine.info.slot_bytes, np.uint8)
    image = Image(picture, "rgb8", width, height, 3 * width)
    made = fill(slot, image, None, tiling, engine.recipes.device_resize)
    request = FrameRequest(0, 0, made.rows, made.columns, width, height, task, frame=made.frame)
    return request, made.pixels(slot, tiling.tile)


def ask(engine: Engine, picture: np.ndarray, task: Task) -> Answer:
    """The engine's answer for a picture."""
    request, pixels = prepared(engine, picture, task)
    return engine.run([request], [pixels])[0]


def detect(engine: Engine, picture: np.ndarray, task: Task) -> Callable[[float], Sequence[Detection]]:
    """The engine's detections as a function of the temperature; 0 means the checkpoint's own."""
    request, pixels = prepared(engine, picture, task)
    engine.check(request, pixels)
    made = engine.generate(request, pixels)
    return lambda temperature: engine.detections(request, made, temperature)


def calibrate(engine: Engine, samples: Iterable[Sample], classes: Sequence[str], min_side: float) -> int:
    """Fit the temperature and write it into the checkpoint."""
    accuracy = Accuracy(classes, min_side)
    said: list[tuple[Callable[[float], Sequence[Detection]], list[bool | None]]] = []
    for sample in samples:
        asked = sample.asked(classes)
        if asked:
            answer = detect(engine, sample.image, Task("detect", asked))
            said.append((answer, accuracy.add(answer(0.0), truths_of(sample, min_side, asked))))

    def rescore(temperature: float) -> list[float]:
        return [
            d.score
            for answer, verdicts in said
            for d, verdict in zip(answer(temperature), verdicts, strict=True)
            if verdict is not None
        ]

    if not accuracy.right:
        raise ValueError(f"{engine.info.name} detects nothing on these pictures, so there is nothing to fit")
    temperature = round(fit_temperature(rescore, accuracy.right), 3)
    file = engine.checkpoint.path / "config.json"
    config = json.loads(file.read_text())
    config["argus"]["temperature"] = temperature
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    before, after = (calibration_error(rescore(t), accuracy.right) for t in (1.0, temperature))
    print(f"temperature {temperature} written into {file}")
    print(f"calibration error on these {len(said)} pictures: {before:.3f} without it, {after:.3f} with it")
    return 0


# --- for people -------------------------------------------------------------------------------


def show(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console()
    count = (
        f"{figures['scenes']} scenes ({figures['split']})"
        if "scenes" in figures
        else f"{figures['pictures']} pictures"
    )
    table = Table(title=f"{figures['checkpoint']} on {count}, IoU 0.5")
    for column in ("class", "F1", "precision", "recall", "objects"):
        table.add_column(column, justify="left" if column == "class" else "right")
    sizes = [(f"{name} px", row) for name, row in figures["per_size"].items()]
    classes = [(name, row) for name, row in figures["per_class"].items() if row["objects"]]
    groups = list(figures.get("per_group", {}).items())
    for group in (classes, sizes, groups, [("all", figures)]):
        for name, row in group:
            shares = (f"{row[key]:.3f}" for key in ("f1", "precision", "recall"))
            table.add_row(name, *shares, str(row["objects"]))
        table.add_section()
    console.print(table)
    for row in figures["confused"][:5]:
        console.print(f"{row['is']} taken for {row['taken_for']}: {row['count']} times", highlight=False)
    for name, value in summary(figures):
        console.print(f"{name}: {value}", highlight=False)


def summary(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures without a class or size."""

    def said(value: float | None) -> str:
        return "not asked" if value is None else f"{value:.3f}"

    best = figures["best_score"]
    return [
        ("mean IoU of hits", said(figures["mean_iou"])),
        ("mAP, IoU 0.50 to 0.95", f"{figures['map']:.3f} (at 0.50: {figures['map_50']:.3f})"),
        ("mean F1 of the classes", said(figures["f1_mean_of_classes"])),
        ("highest F1", f"{best['f1']:.3f} with a score of at least {best['score']:.2f}"),
        ("where no class is named", without_classes(figures["unnamed"])),
        ("descriptions right", said(figures["description_accuracy"])),
        ("asked-for subset respected", said(figures["subset_respected"])),
        ('"how many" right', said(figures["ask"]["how_many"])),
        ('"is there" right', said(figures["ask"]["is_there"])),
        (
            "calibration error",
            f"{figures['ece']:.3f} at temperature {figures['temperature']:g}, "
            f"{figures['ece_without_temperature']:.3f} without",
        ),
    ]


def without_classes(unnamed: dict[str, Any] | None) -> str:
    """The figures of ``Unnamed`` in one line."""
    if unnamed is None:
        return "as above: the pictures are complete for all classes"
    return (
        f"F1 {unnamed['f1']:.3f}, precision {unnamed['precision']:.3f}, recall {unnamed['recall']:.3f}, and "
        f"{unnamed['others_per_picture']:.2f} detections a picture of classes that are not labelled in it"
    )
