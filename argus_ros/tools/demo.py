"""`argus demo`: the whole system on real topics, with annotated results.

It renders a camera bag. One process plays it at recorded speed, the node runs in its two processes, and
another process subscribes as a planner would. The answers are compared with the bag's ground truth. With
``--bag`` your own recording is played, which has no ground truth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from argus_ros.core import checkpoint
from argus_ros.core.drawing import draw
from argus_ros.core.matching import Tally, box_of, iou, match
from argus_ros.core.types import Detection, Outcome
from argus_ros.tools import camera_bag, replay, topics, video, watch
from argus_ros.tools.camera_bag import Picture
from argus_ros.tools.results import LOST, MEANINGS
from argus_ros.tools.video import Video
from argus_ros.training.scenes.film import Walk

#: Recall below which the demo counts as failed.
LEAST_RECALL = 0.4
#: The model for the rendered film, fast enough for two cores.
RENDERED = "argus-nano"
#: Motion of each camera in the demo.
CAMERAS = {
    "front": Walk(seed=3, speed=0.7),
    "left": Walk(seed=4, speed=0.0),
    "right": Walk(seed=5, speed=1.4),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("build/demo"), help="folder for the bag and the results"
    )
    parser.add_argument("--cameras", type=int, choices=(1, 2, 3), default=1, help="how many cameras")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the film")
    parser.add_argument("--rate", type=float, default=15.0, help="frames per second and camera")
    parser.add_argument(
        "--model",
        help=f"a shipped checkpoint or a folder; default {RENDERED}, with --bag {checkpoint.DEFAULT}",
    )
    parser.add_argument("--deadline", type=float, default=0.5, help="maximum age of an answer, seconds")
    parser.add_argument(
        "--bag", type=Path, help="play this recording instead of the film: its image topics are the cameras"
    )
    parser.add_argument("--no-page", action="store_true", help="do not serve the live page")


@dataclass
class Record:
    """The messages of one camera that the planner received."""

    answers: dict[int, dict[str, Any]] = field(default_factory=dict)  #: detections by stamp, nanoseconds
    places: dict[int, dict[str, Any]] = field(default_factory=dict)  #: their positions in space, by stamp
    outcomes: Counter[str] = field(default_factory=Counter)
    boxes_at: float = 0.0  #: time of the first boxes, seconds since the epoch

    def hear(self, topic: str, message: dict[str, Any]) -> None:
        if topic == "detections":
            self.answers[topics.stamp(message)] = message
            if message["detections"] and not self.boxes_at:
                self.boxes_at = time.time()
        elif topic == "detections_3d":
            self.places[topics.stamp(message)] = message
        else:
            self.outcomes[Outcome(message["outcome"]).name.lower()] += 1

    @property
    def latencies(self) -> list[float]:
        return [answer["latency"] for answer in self.answers.values()]


#: Commands for next steps, by purpose; ARGUS stands for the program argus.
NEXT = {
    "your USB camera or video, without ROS": "ARGUS live /dev/video0",
    "your camera on a ROS topic": "ros2 launch argus_ros argus.launch.py camera_topic:=/camera/image_raw",
    "your recording": "ARGUS demo --bag PATH",
    "your checkpoint": "ARGUS demo --model FOLDER (docs/training.md makes one, docs/models.md lists others)",
    "the live page of your node": "ARGUS watch",
}


#: Variable with the start of `make demo`, in seconds since the epoch, so that set-up counts as well.
BEGAN = "ARGUS_DEMO_BEGAN"


def run(options: argparse.Namespace) -> int:
    began = time.time()
    topics.require_ros()  # before rendering, which takes half a minute
    console = Console()
    status = _play_own(options) if options.bag else _play_film(options, console, began)
    if status == 0:
        console.print("\nnext steps:")
        for what, words in NEXT.items():
            line = f"  {what}: {words.replace('ARGUS', program())}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return status


def program() -> str:
    """The command for the program argus in this shell."""
    script = Path(sys.prefix, "bin", "argus")
    if not script.exists():
        return "ros2 run argus_ros argus"
    return os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)


def first_boxes(at: float, began: float, make_began: str) -> str:
    """Time to the first boxes, from the start of `make demo` where that is known."""
    included = ""
    with contextlib.suppress(ValueError):
        began, included = float(make_began), ", set-up included"
    minutes, seconds = divmod(round(at - began), 60)
    return f"first boxes {minutes} min {seconds:02} s after the start{included}"


def _play_own(options: argparse.Namespace) -> int:
    """Play a recording on real topics, as `argus replay --live` does."""
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    model = options.model or checkpoint.DEFAULT
    words = [options.bag.expanduser(), "--live", "--out", options.out, "--checkpoint", model]
    words += [] if options.no_page else ["--page"]
    return replay.run(parser.parse_args([*map(str, words), "--deadline", str(options.deadline)]))


def _play_film(options: argparse.Namespace, console: Console, began: float) -> int:
    walks = {
        name: Walk(walk.seed, options.seconds, options.rate, speed=walk.speed)
        for name, walk in list(CAMERAS.items())[: options.cameras]
    }
    bag = options.out / "camera_bag"
    with ExitStack() as stack:
        environment = stack.enter_context(topics.own_domain(console))
        if not options.no_page:
            stack.enter_context(watch.beside(environment, console))
        _render(bag, walks, console)
        sent = {camera: sum(1 for _ in camera_bag.read(bag, camera)) for camera in walks}
        records = _play(environment, bag, walks, options, console, sum(sent.values()))
    summary = summarise(bag, records, sent)
    write(options.out, bag, records, summary, options.rate)
    _show(console, summary, options.out)
    if boxes := [record.boxes_at for record in records.values() if record.boxes_at]:
        console.print(first_boxes(min(boxes), began, os.environ.get(BEGAN, "")), highlight=False)
    if not summary["frames_processed"]:
        console.print("[red]no answers arrived: see the node's log above[/red]")
        return 1
    if summary["recall"] < LEAST_RECALL:
        console.print(f"[red]recall {summary['recall']:.2f} is below {LEAST_RECALL}[/red]")
        return 1
    return 0


def _render(bag: Path, walks: dict[str, Walk], console: Console) -> None:
    """Render the bag, unless it exists from a run with the same walks."""
    recipe = bag.with_suffix(".json")
    recipes = {camera: asdict(walk) for camera, walk in walks.items()}
    wanted = json.dumps({"version": camera_bag.VERSION, **recipes})
    if bag.exists() and recipe.exists() and recipe.read_text() == wanted:
        console.print(f"camera bag of an earlier run: {bag}")
        return
    recipe.unlink(missing_ok=True)
    total = sum(round(walk.seconds * walk.rate) for walk in walks.values())
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("rendering the camera bag", total=total)
        count = camera_bag.write(bag, walks, lambda: progress.advance(bar))
    recipe.write_text(wanted)
    console.print(f"camera bag: {count} pictures in {bag}")


def _play(
    environment: dict[str, str],
    bag: Path,
    walks: dict[str, Walk],
    options: argparse.Namespace,
    console: Console,
    frames: int,
) -> dict[str, Record]:
    """Run node, planner and player until every frame has its outcome."""
    records: dict[str, Record] = defaultdict(Record)
    parameters = {
        "model": options.model or RENDERED,
        "cameras": list(walks),
        **{f"camera.{camera}.deadline": options.deadline for camera in walks},
        **{f"camera.{camera}.depth_topic": camera_bag.depth_topic(camera) for camera in walks},
        **{f"camera.{camera}.camera_info_topic": camera_bag.info_topic(camera) for camera in walks},
    }
    with (
        topics.playing(environment, bag, parameters, frames, console) as messages,
        Live(_table(records), console=console, refresh_per_second=4) as shown,
    ):
        for topic, message in messages:
            records[message["camera"]].hear(topic, message)
            shown.update(_table(records))
    if not console.is_terminal:  # on a terminal the table ends its own line
        console.line()
    return dict(records)


# --- what is made of it -----------------------------------------------------------------------


def summarise(bag: Path, records: dict[str, Record], sent: dict[str, int]) -> dict[str, Any]:
    """Counts, latency in seconds, precision and recall over the answered frames, in total and per camera.

    ``position``: error of each position of a hit, divided by its distance from the camera.
    """
    counts = Tally()
    errors: list[float] = []
    for camera, record in records.items():
        for picture in camera_bag.read(bag, camera):
            if picture.stamp_ns in record.answers:
                detections = _detections(record.answers[picture.stamp_ns])
                counts += score(detections, picture)
                if placed := record.places.get(picture.stamp_ns):
                    errors += position_errors(detections, placed["detections"], picture)
    heard = {camera: records.get(camera, Record()) for camera in sent}
    return {
        **_account(list(heard.values()), sum(sent.values())),
        "precision": counts.precision,
        "recall": counts.recall,
        "position": {"placed": len(errors), "error": float(np.median(errors)) if errors else None},
        "cameras": {
            camera: {
                **_account([record], sent[camera]),
                "age_max": max((answer["age"] for answer in record.answers.values()), default=0.0),
            }
            for camera, record in heard.items()
        },
    }


def _account(records: Sequence[Record], sent: int) -> dict[str, Any]:
    """Outcomes of the frames sent, and latency quantiles in seconds of the answers."""
    latencies = [seconds for record in records for seconds in record.latencies]
    dropped = sum((record.outcomes for record in records), Counter[str]())
    lost = sent - dropped.total()
    del dropped["published"]
    if lost > 0:
        dropped[LOST.outcome] = lost
    p50, p95 = np.quantile(latencies, (0.5, 0.95)) if latencies else (0.0, 0.0)
    return {
        "frames_sent": sent,
        "frames_processed": sum(len(record.answers) for record in records),
        "dropped": dict(dropped),
        "latency": {"p50": float(p50), "p95": float(p95), "max": max(latencies, default=0.0)},
    }


def score(detections: Sequence[Detection], picture: Picture) -> Tally:
    """Hits, false alarms and misses; detections of objects that are too hidden do not count."""
    pairs = match(detections, picture.truths)
    hit = {i for i, _, _ in pairs}
    rest = [d for i, d in enumerate(detections) if i not in hit]
    false_alarms = sum(not _ignored(d, picture) for d in rest)
    return Tally(len(pairs), false_alarms, len(picture.truths) - len(pairs), sum(o for _, _, o in pairs))


def position_errors(
    detections: Sequence[Detection], places: Sequence[dict[str, Any]], picture: Picture
) -> Iterator[float]:
    """For every hit with a position: its error, divided by its distance from the camera.

    ``places``: one for each detection, from ``~/detections_3d``.
    """
    for i, truth, _ in match(detections, picture.truths):
        position = places[i]["pose"]["position"]
        found, true = np.array([position[axis] for axis in "xyz"]), np.array(picture.places[truth])
        if np.isfinite(found).all():
            yield float(np.linalg.norm(found - true) / np.linalg.norm(true))


def _ignored(detection: Detection, picture: Picture) -> bool:
    same = [t.box for t in picture.ignored if t.label == detection.label]
    return bool(same) and float(iou([box_of(detection)], same).max()) > 0.3


def _detections(message: dict[str, Any]) -> list[Detection]:
    return [Detection(**detection) for detection in message["detections"]]


def write(out: Path, bag: Path, records: dict[str, Record], summary: dict[str, Any], rate: float) -> None:
    """Write ``summary.json``, ``detections.jsonl``, and an annotated video and picture of every camera."""
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    with (out / "detections.jsonl").open("w") as log:
        answers = [answer for record in records.values() for answer in record.answers.values()]
        for answer in sorted(answers, key=topics.stamp):
            log.write(json.dumps(answer) + "\n")
    for camera, record in records.items():
        with Video(out / f"{camera}.mp4", rate) as film:
            best = _film(film, camera_bag.read(bag, camera), record)
        if best is not None:
            cv2.imwrite(str(out / f"{camera}.png"), cv2.cvtColor(best, cv2.COLOR_RGB2BGR))


def _film(film: Video, pictures: Iterable[Picture], record: Record) -> np.ndarray | None:
    """Write every picture with the newest answer at that time, or with a note that there is none.

    Returns the picture with the best answer, (height, width, 3) uint8 RGB.
    """
    shown: list[Detection] = []
    best, best_rgb = 0, None
    for picture in pictures:
        rgb = picture.rgb()
        answer = record.answers.get(picture.stamp_ns)
        if answer:
            shown = _detections(answer)
        draw(rgb, shown, f"{1e3 * answer['latency']:.0f} ms" if answer else "no answer for this frame")
        film.write(rgb)
        counts = score(shown, picture)
        if answer and counts.hits - counts.false_alarms > best:
            best, best_rgb = counts.hits - counts.false_alarms, rgb
    return best_rgb


def _table(records: dict[str, Record]) -> Table:
    """The progress so far, one row per camera."""
    table = Table("camera", "answered", "dropped", "latency", "sees")
    for camera, record in sorted(records.items()):
        dropped = ", ".join(f"{n} {name}" for name, n in record.outcomes.items() if name != "published")
        newest = record.answers[max(record.answers)] if record.answers else None
        seen = Counter(d["label"] for d in newest["detections"]) if newest else Counter()
        latency = f"{1e3 * float(np.median(record.latencies)):.0f} ms" if record.answers else ""
        words = ", ".join(f"{n} {label}" if n > 1 else label for label, n in seen.items())
        table.add_row(camera, str(len(record.answers)), dropped, latency, words)
    return table


def _show(console: Console, summary: dict[str, Any], out: Path) -> None:
    cameras = summary["cameras"] if len(summary["cameras"]) > 1 else {}
    table = Table("result", *cameras, *(["all"] if cameras else [""]))
    columns = [*cameras.values(), summary]
    table.add_row("frames sent", *(str(column["frames_sent"]) for column in columns))
    table.add_row("frames processed", *(str(column["frames_processed"]) for column in columns))
    for reason in summary["dropped"]:
        counts = (str(column["dropped"].get(reason, 0)) for column in columns)
        table.add_row(f"dropped: {reason.replace('_', ' ')}", *counts)
    for name in ("p50", "p95", "max"):
        table.add_row(f"latency {name}", *(f"{1e3 * column['latency'][name]:.0f} ms" for column in columns))
    ages = [*(camera["age_max"] for camera in summary["cameras"].values())]
    if cameras:
        ages.append(max(ages))
    table.add_row("oldest answer", *(f"{1e3 * age:.0f} ms" for age in ages))
    console.print(table)
    console.print(f"precision {summary['precision']:.2f}, recall {summary['recall']:.2f}")
    if summary["position"]["placed"]:
        placed, error = summary["position"]["placed"], summary["position"]["error"]
        console.print(f"positions in space: {placed}, {error:.1%} of the distance off in the median")
    for reason in summary["dropped"]:
        if reason in MEANINGS:
            said = f"  {reason.replace('_', ' ')}: {MEANINGS[reason]}"
            console.print(said, highlight=False, soft_wrap=True)
    pictures = (f"{camera}.{kind}" for camera in summary["cameras"] for kind in ("mp4", "png"))
    for name in ("summary.json", "detections.jsonl", *pictures):
        if (out / name).exists():
            console.print(f"  {out / name}")
    if trouble := video.missing():
        console.print(f"  {trouble}")
