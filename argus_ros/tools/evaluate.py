"""`argus evaluate`: how well a checkpoint sees, on synthetic scenes that training never saw."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from argus_ros.core.image import Image
from argus_ros.core.matching import Tally, Truth, match, tally
from argus_ros.core.preparation import fill
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Answer, Task
from argus_ros.tools.machine import describe
from argus_ros.training import scenes
from argus_ros.training.scenes import Scene
from argus_ros.vlm.engine import Engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="argus-nano", help="a shipped name or a folder")
    parser.add_argument("--scenes", type=int, default=1000, help="how many scenes")
    parser.add_argument("--seed", type=int, default=0, help="number of the first scene")
    parser.add_argument(
        "--split",
        choices=scenes.SPLITS[1:],
        default="val",
        help="val: unseen scenes; heldout: also drawings and backgrounds that training never saw",
    )
    parser.add_argument("--score", type=float, default=0.0, help="detections under this score are left out")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", type=Path, help="write the figures here")


def run(options: argparse.Namespace) -> int:
    engine = Engine(EngineConfig(checkpoint=options.checkpoint, device=options.device))
    unknown = set(scenes.CLASSES) - set(engine.info.classes)
    if unknown:
        raise ValueError(
            f"{engine.info.name} does not know {', '.join(sorted(unknown))}, which the scenes show; "
            "measure a checkpoint that was trained on them"
        )
    figures = measure(engine, options.scenes, options.seed, options.split, options.score)
    show(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**describe(), **figures}, indent=2) + "\n")
    return 0


def measure(
    engine: Engine, count: int, seed: int = 0, split: str = "val", score: float = 0.0
) -> dict[str, Any]:
    """F1, precision, recall and mean IoU at 0.5; descriptions; whether only asked-for classes appear."""
    total: defaultdict[str, Tally] = defaultdict(Tally)
    described = right = respected = 0
    rng = np.random.default_rng(seed)
    for number in track(range(seed, seed + count), "scenes", transient=True):
        scene = scenes.render(number, split, (640, 480))
        truths = [Truth(t.label, t.box, f"{t.colour} {t.label}") for t in scene.things]
        found = [d for d in ask(engine, scene, Task("detect")).detections if d.score >= score]
        for label in {t.label for t in truths} | {d.label for d in found}:
            total[label] += tally(
                [d for d in found if d.label == label], [t for t in truths if t.label == label]
            )
        captions = ask(engine, scene, Task("dense_caption")).detections
        pairs = match(captions, truths)
        described += len(pairs)
        right += sum(captions[i].description == truths[j].description for i, j, _ in pairs)
        subset = tuple(rng.choice(scenes.CLASSES, 3, replace=False))
        respected += all(d.label in subset for d in ask(engine, scene, Task("detect", subset)).detections)
    whole = sum(total.values(), Tally())
    return {
        "checkpoint": engine.info.name,
        "scenes": count,
        "seed": seed,
        "split": split,
        **_figures(whole),
        "mean_iou": whole.mean_iou,
        "description_accuracy": right / max(described, 1),
        "subset_respected": respected / max(count, 1),
        "per_class": {label: _figures(total[label]) for label in scenes.CLASSES},
    }


def ask(engine: Engine, scene: Scene, task: Task) -> Answer:
    """The engine's answer for a scene, prepared as a camera's picture is."""
    height, width = scene.image.shape[:2]
    tiling, slot = engine.checkpoint.tiling, np.empty(engine.info.slot_bytes, np.uint8)
    image = Image(scene.image, "rgb8", width, height, 3 * width)
    prepared = fill(slot, image, None, tiling, engine.recipes.device_resize)
    layout = prepared.rows, prepared.columns
    request = FrameRequest(0, 0, *layout, width, height, task, frame=prepared.frame)
    return engine.run([request], [prepared.pixels(slot, tiling.tile)])[0]


def _figures(counts: Tally) -> dict[str, float]:
    return {"f1": counts.f1, "precision": counts.precision, "recall": counts.recall}


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    table = Table(
        title=f"{figures['checkpoint']} on {figures['scenes']} scenes ({figures['split']}), IoU 0.5"
    )
    for column in ("class", "F1", "precision", "recall"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name, row in (*figures["per_class"].items(), ("all", figures)):
        if row is figures:
            table.add_section()
        table.add_row(name, *(f"{row[k]:.3f}" for k in ("f1", "precision", "recall")))
    console = Console()
    console.print(table)
    console.print(
        f"mean IoU of hits {figures['mean_iou']:.3f}, "
        f"descriptions right {figures['description_accuracy']:.3f}, "
        f"asked-for subset respected {figures['subset_respected']:.3f}"
    )
