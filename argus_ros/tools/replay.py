"""`argus replay BAG`: run the model on a recording, and compare the answers with an earlier run.

Offline, every image is run, one after the other and reproducibly, without ROS. With ``--live`` the bag is
played on real topics to the node, with its deadlines.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import recipes
from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.engine_client import EngineDownError
from argus_ros.core.image import Image, ImageError, decode
from argus_ros.core.offline import Offline
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.tracking import Tracker
from argus_ros.core.types import TASKS, Answer, Detection, Outcome, StageTimes, Status, Task
from argus_ros.tools import expectation, machine, topics, video, watch
from argus_ros.tools.bag import Bag, BagError, Frame
from argus_ros.tools.expectation import Comparison, Key, Line
from argus_ros.tools.report import Report
from argus_ros.tools.results import LOST, MEANINGS, PUBLISHED, Result, Results, line_of
from argus_ros.vlm.formats import prompts

#: Exit statuses beside 0.
CHANGED, TROUBLE = 1, 2
#: Timeout of an image offline, in seconds, before the engine counts as hung.
PATIENCE = 600.0
UNDECODABLE = Outcome.UNDECODABLE.name.lower()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bag",
        type=Path,
        nargs="+",
        help="folder of a rosbag2 bag, or a .mcap, .db3 or (ROS 1) .bag file; several for a folder each",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--offline", action="store_true", help="every image, without ROS (this is the default)")
    mode.add_argument("--live", action="store_true", help="on real topics, with deadlines; needs ROS 2")
    parser.add_argument("--topic", action="append", default=[], help="image topic; repeatable")
    parser.add_argument("--out", type=Path, help="folder for detections, videos, a bag and a report")
    how = add_asked(parser)
    how.add_argument("--limit", type=int, help="number of images of a bag after which to stop (offline)")
    how.add_argument("--threads", type=int, default=0, help="CPU threads (offline); 0: all cores but one")
    how.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run bags side by side in Ray, an engine for each GPU or --threads cores (offline): the address "
        "of a cluster, auto, or local for one on this machine",
    )
    how.add_argument("--rate", type=float, help="times recorded speed (live)")
    how.add_argument("--loop", type=int, help="number of times to play it (live)")
    how.add_argument("--deadline", type=float, help="maximum age of an answer, seconds (live)")
    page = "serve the live page during the run (live)"
    how.add_argument("--page", action="store_true", default=None, help=page)
    test = parser.add_argument_group("regression test")
    test.add_argument(
        "--expect", type=Path, metavar="FILE", help="detections.jsonl of an earlier run: exit 1 on a change"
    )
    test.add_argument("--update", action="store_true", help="write the detections to that file instead")
    test.add_argument("--iou", type=float, default=0.5, help="minimum overlap (IoU) with the expected box")


def add_asked(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the arguments for the model and the task; returns the group for how to run them."""
    what = parser.add_argument_group("what is asked")
    what.add_argument("--checkpoint", default=checkpoints.DEFAULT, help="a shipped checkpoint or a folder")
    what.add_argument("--task", default="detect", choices=TASKS, help="the task for each image")
    what.add_argument("--classes", nargs="+", default=[], help="classes to detect; default: all")
    what.add_argument("--prompt", default="", help="the phrase of task ground, the question of task ask")
    what.add_argument("--score", type=float, default=0.3, help="minimum score of a detection")
    what.add_argument("--track", action="store_true", help="give objects a track_id that persists")
    how = parser.add_argument_group("how it runs")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    how.add_argument("--preset", default="realtime", choices=list(recipes.PRESETS), help="latency recipes")
    return how


def run(options: argparse.Namespace) -> int:
    console = Console()
    _check(options)
    asked = Asked.of(options)
    if len(options.bag) > 1 or options.ray:
        from argus_ros.tools import bags  # which plays each of them by this module

        return bags.run(options, console)
    playing = play(options.bag[0], options.out, asked, console)
    played = deque(playing, maxlen=1)[0]
    assert isinstance(played, Played)
    _show(console, played.run, options.out)
    return _verdict(console, options, played)


@dataclass
class Played:
    """What came of a bag."""

    run: Run
    comparison: Comparison | None = None
    trouble: str = ""  #: why it was not played to its end, or had no answer; empty where all is well


def play(path: Path, out: Path | None, asked: Asked, console: Console) -> Iterator[Progressed | Played]:
    """Play a bag and write its folder; after each image how far it is, and in the end what came of it.

    Raises ValueError for a bag or a folder that cannot be used at all.
    """
    options, comparison = asked.options, None
    if options.expect and not options.update:
        comparison = Comparison(expectation.read(options.expect), options.iou, partial=options.live)
    with Bag(path) as bag, ExitStack() as stack:
        cameras = bag.cameras(options.topic)
        results = report = None
        if out:
            rates = {name: _rate(bag, topic) for topic, name in cameras.items()}
            model, task = asked.checkpoint.name, asked.task.name
            results = stack.enter_context(Results(out, model=model, task=task, rates=rates))
            report = Report()
        run, count = Run(), _count(bag, cameras, options)
        trouble = ""
        played = stack.enter_context(
            closing((_live if options.live else _offline)(bag, cameras, asked, console))
        )
        try:
            for frame, result in played:
                line = line_of(frame, result, asked.task.name) if result.answer else None
                change = comparison.add(line) if comparison and line else None
                run.add(result, line)
                if results and report:
                    picture = _pixels(frame.image)
                    results.add(frame, result, picture)
                    report.add(frame, result, picture, change)
                yield Progressed(run.outcomes.total(), count)
        except (BagError, EngineDownError) as error:  # keep the results so far
            trouble = str(error)
    if comparison and not trouble:
        comparison.finish()
    trouble = trouble or run.trouble()
    facts = {"bag": path, "mode": "live" if options.live else "offline", **asked.facts()}
    if report and out:
        changes = comparison.changes if comparison else None
        _write(out, facts, run, report.html(f"argus replay {path.name}", facts, changes), comparison)
    yield Played(run, comparison, trouble)


@dataclass(frozen=True)
class Progressed:
    """How far a bag is played."""

    done: int  #: images
    count: int  #: images in all, as far as the bag says


def _check(options: argparse.Namespace) -> None:
    """Raise ValueError for invalid combinations of arguments."""
    wrong = ("limit", "threads", "ray") if options.live else ("rate", "loop", "deadline", "page")
    if given := [f"--{name}" for name in wrong if getattr(options, name)]:
        raise ValueError(f"{', '.join(given)} goes with {'--offline' if options.live else '--live'} only")
    for name in ("rate", "loop", "deadline", "limit"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise ValueError(f"--{name} is {value:g}; it has to be above 0")
    if not 0 <= options.iou <= 1:
        raise ValueError(f"--iou is {options.iou:g}; it has to be between 0 and 1")
    if options.threads < 0:
        raise ValueError(f"--threads is {options.threads}; it has to be above 0, or 0 for all cores but one")
    if (len(options.bag) > 1 or options.ray) and (options.live or options.expect):
        raise ValueError("--live and --expect go with one bag, in this process")
    if options.update and (options.live or not options.expect):
        raise ValueError("--update needs --expect, and a run with --offline")


@dataclass(frozen=True)
class Asked:
    """The checked task and model for all images."""

    checkpoint: Checkpoint
    task: Task
    options: argparse.Namespace

    @classmethod
    def of(cls, options: argparse.Namespace) -> Asked:
        """From the command line. Raises ValueError for invalid values."""
        if not 0 <= options.score <= 1:
            raise ValueError(f"--score is {options.score:g}; it has to be between 0 and 1")
        task = Task(options.task, tuple(options.classes), options.prompt)
        checkpoint = checkpoints.read(options.checkpoint)
        prompts.check(task, checkpoint)
        prompts.check_question(task, checkpoint)
        return cls(checkpoint, task, options)

    def facts(self) -> dict[str, Any]:
        """Facts for the report."""
        asked = {"classes": " ".join(self.task.classes), "prompt": self.task.prompt}
        return {
            "checkpoint": self.checkpoint.name,
            "task": self.task.name,
            **{name: value for name, value in asked.items() if value},
            "least score": self.options.score,
        }


# --- offline ------------------------------------------------------------------------------------


def _offline(
    bag: Bag, cameras: dict[str, str], asked: Asked, console: Console
) -> Generator[tuple[Frame, Result], None, None]:
    """Run every image in the order of the bag. Raises BagError and EngineDownError."""
    options = asked.options
    trackers = {name: Tracker() for name in cameras.values()} if options.track else {}
    config = EngineConfig(
        options.checkpoint, device=options.device, preset=options.preset, threads=options.threads
    )
    count = _count(bag, cameras, options)
    with ExitStack() as stack:
        with console.status("loading the model"):
            engine = stack.enter_context(Offline(config, asked.checkpoint.tiling, hang_seconds=PATIENCE))
        progress = stack.enter_context(_progress(console))
        for frame in progress.track(islice(bag.frames(cameras), options.limit), count, description="images"):
            yield frame, ask(engine, frame, asked, trackers.get(frame.camera))


def _count(bag: Bag, cameras: dict[str, str], options: argparse.Namespace) -> int:
    """Images to play; what a bag has beyond its own count is played, too."""
    return min(bag.count(cameras), options.limit or sys.maxsize) * (options.loop or 1)


def ask(engine: Offline, frame: Frame, asked: Asked, tracker: Tracker | None) -> Result:
    try:
        size = frame.image.size()
        answer = engine.run(frame.image, asked.task)
    except ImageError as error:
        return Result(UNDECODABLE, str(error))
    found = tuple(d for d in answer.detections if d.score >= asked.options.score)
    if tracker:
        found = tracker.update(found, frame.stamp)
    return Result(PUBLISHED, "", replace(answer, detections=found), size, answer.times)


# --- live ---------------------------------------------------------------------------------------


def _live(
    bag: Bag, cameras: dict[str, str], asked: Asked, console: Console
) -> Generator[tuple[Frame, Result], None, None]:
    """Play the bag, then yield every image with the planner's messages for it."""
    options = asked.options
    loops = options.loop or 1
    count = bag.count(cameras) * loops
    topics.require_ros()
    answers: dict[Key, dict[str, Any]] = {}
    timings: dict[Key, dict[str, Any]] = {}
    with ExitStack() as stack:
        words = ["--rate", str(options.rate or 1.0), "--loop", str(loops), "--topics", *cameras]
        parameters = _parameters(cameras, asked)
        environment = stack.enter_context(topics.own_domain(console))
        if options.page:
            stack.enter_context(watch.beside(environment, console))
        messages = stack.enter_context(
            topics.playing(environment, bag.path, parameters, count, console, words)
        )
        progress = stack.enter_context(_progress(console))
        bar = progress.add_task("images", total=count)
        for topic, message in messages:
            if topic == "detections_3d":
                continue
            heard = answers if topic == "detections" else timings
            heard.setdefault(
                (message["camera"], topics.stamp(message)), message
            )  # the first of several rounds
            progress.advance(bar, topic == "timing")
    for frame in bag.frames(cameras):
        key = frame.camera, frame.stamp
        yield frame, _heard(answers.get(key), timings.get(key))


def _parameters(cameras: dict[str, str], asked: Asked) -> dict[str, Any]:
    """The node's."""
    options = asked.options
    parameters = {
        "model": str(asked.checkpoint.path),
        **{name: getattr(options, name) for name in ("device", "preset", "task", "prompt")},
        "score_threshold": options.score,
        "tracking": options.track,
        "cameras": list(cameras.values()),
        **{f"camera.{name}.topic": topic for topic, name in cameras.items()},
    }
    if options.classes:
        parameters["classes"] = options.classes
    if options.deadline:
        parameters |= {f"camera.{name}.deadline": options.deadline for name in cameras.values()}
    return parameters


def _heard(answer: dict[str, Any] | None, timing: dict[str, Any] | None) -> Result:
    """The result of a frame, from the planner's messages."""
    if timing is None:
        return LOST
    times = StageTimes(**{f.name: timing[f.name] for f in fields(StageTimes)})
    outcome = Outcome(timing["outcome"]).name.lower()
    if answer is None:
        return Result(outcome, times=times)
    found = tuple(Detection(**detection) for detection in answer["detections"])
    said = Answer(found, answer["text"], Status(answer["status"]), times)
    return Result(
        outcome, "", said, (answer["image_width"], answer["image_height"]), times, age=answer["age"]
    )


# --- what is made of it -------------------------------------------------------------------------


@dataclass
class Run:
    """What a run adds up to."""

    lines: list[Line] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)  #: seconds
    outcomes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    reason: str = ""  #: why the last frame without an answer had none

    def add(self, result: Result, line: Line | None) -> None:
        self.outcomes[result.outcome] += 1
        if line is None or result.answer is None:
            self.reason = result.reason or self.reason
            return
        self.lines.append(line)
        self.latencies.append(result.times.total)
        self.labels.update(d.label for d in result.answer.detections)

    def trouble(self) -> str:
        """Why the run has no answers at all; "" if it has some."""
        if self.lines:
            return ""
        counts = ", ".join(f"{n} {outcome.replace('_', ' ')}" for outcome, n in self.outcomes.items())
        reasons = ": ".join(filter(None, (counts, self.reason)))
        return f"no image was answered: {reasons or 'the bag has none'}"

    def figures(self) -> dict[str, Any]:
        p50, p95 = np.quantile(self.latencies, (0.5, 0.95)) if self.latencies else (0.0, 0.0)
        return {
            "frames": self.outcomes.total(),
            "outcomes": dict(self.outcomes),
            "latency": {"p50": float(p50), "p95": float(p95), "max": max(self.latencies, default=0.0)},
            "detections": dict(self.labels.most_common()),
        }


def _rate(bag: Bag, topic: str) -> float:
    """Images per second, for the video."""
    return min(max(bag.count([topic]) / max(bag.seconds, 1e-3), 1.0), 120.0)


def _pixels(image: Image) -> np.ndarray | None:
    """(height, width, 3) uint8 RGB to draw into; None where the image cannot be decoded."""
    try:
        return np.array(decode(image).rgb())
    except ImageError:
        return None


def _progress(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console)


def _write(folder: Path, facts: dict[str, Any], run: Run, page: str, comparison: Comparison | None) -> None:
    (folder / "report.html").write_text(page, encoding="utf-8")
    changes = {"changes": [str(change) for change in comparison.changes]} if comparison else {}
    summary = (
        {name: str(value) for name, value in facts.items()} | run.figures() | changes | machine.describe()
    )
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def _show(console: Console, run: Run, out: Path | None) -> None:
    figures = run.figures()
    table = Table(show_header=False)
    table.add_row("frames", str(figures["frames"]))
    for outcome, count in run.outcomes.most_common():
        table.add_row(": ".join(filter(None, (outcome.replace("_", " "), MEANINGS.get(outcome)))), str(count))
    latency = figures["latency"]
    table.add_row("latency p50 / p95 / max", " / ".join(f"{1e3 * latency[k]:.0f} ms" for k in latency))
    table.add_row("detections", ", ".join(f"{n} {label}" for label, n in run.labels.most_common()))
    console.print(table)
    if out:
        console.print(f"results in {out}: report.html, detections.jsonl, timing.jsonl, bag, videos")
        if trouble := video.missing():
            console.print(trouble)


def _verdict(console: Console, options: argparse.Namespace, played: Played) -> int:
    """Say what came of the test; the exit status."""
    comparison = played.comparison
    if comparison:
        for text in expectation.shown(comparison.changes):
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        console.print(f"expectation {options.expect}: {comparison.summary()}", markup=False, soft_wrap=True)
    if played.trouble:
        print(f"argus replay: {played.trouble}", file=sys.stderr)
        return TROUBLE
    if options.update:
        expectation.write(options.expect, played.run.lines)
        console.print(f"expectation {options.expect}: written from {len(played.run.lines)} frames")
    return CHANGED if comparison and comparison.changes else 0
