"""`argus models`: the checkpoints on this machine and their tasks.

With ``--check`` one is loaded and compared with plain transformers: the same prompt, the same tokens, valid
boxes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import hub
from argus_ros.core.checkpoint import Checkpoint, CheckpointError
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import STRUCTURED_TASKS, Task

if TYPE_CHECKING:
    from argus_ros.vlm.engine.generic import GenericEngine

#: Sizes of the pictures for the check of a checkpoint, and tokens of an answer.
SIZES, NEW = ((320, 240), (150, 450), (256, 256)), 24
#: Two best logits closer than this are a tie: either may be chosen.
TIE = 1e-4
#: Classes for a model with an open vocabulary.
CLASSES = ("person", "car")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="*", help="folders to list besides the shipped ones and the hub's cache"
    )
    parser.add_argument("--check", metavar="CHECKPOINT", help="load a name, folder or hub id, and compare")
    parser.add_argument("--download", metavar="ORG/NAME[@REVISION]", help="download a checkpoint")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the list")


def run(options: argparse.Namespace) -> int:
    if options.download:
        print(hub.download(options.download))
        return 0
    if options.check:
        checked = check(options.check)
        shown: Any = asdict(checked)
        print("\n".join(f"{key:14} {value}" for key, value in shown.items()))
    else:
        rows = [describe(path) for path in found(options.folder)]
        shown = [asdict(row) for row in rows]
        print(table([["", "runs", "format", "tasks", "parameters", "licence"], *map(_cells, rows)]))
        for row in rows:
            if row.why:
                print(f"{row.name}: {row.why}")
    if options.json:
        options.json.write_text(json.dumps(shown, indent=1) + "\n")
    return 0 if not options.check or checked.equal else 1


# --- what is here -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One checkpoint."""

    name: str
    path: str
    runs: str  #: ``native``, ``transformers`` or ``no``
    format: str
    tasks: tuple[str, ...]
    parameters: int  #: 0: unknown
    licence: str
    why: str = ""  #: reason why it does not run


def found(folders: Sequence[str]) -> Iterator[Path]:
    """The shipped checkpoints, those in the hub's cache, and ``folders`` or the checkpoints inside them."""
    yield from (checkpoints.find(name) for name in checkpoints.shipped())
    for repository in sorted(checkpoints.hub_cache().glob("models--*--*")):
        snapshot = checkpoints.cached(repository.name.removeprefix("models--").replace("--", "/", 1))
        if snapshot and (snapshot / "config.json").is_file():
            yield snapshot
    for name in folders:
        folder = Path(os.path.expanduser(name))  # ~nobody stays unchanged
        inside = [folder] if (folder / "config.json").is_file() else sorted(folder.glob("*/"))
        there = [path for path in inside if (path / "config.json").is_file()]
        if not there:
            raise CheckpointError(f"{folder} is not a checkpoint and contains none: no config.json")
        yield from there


def describe(path: Path) -> Row:
    """The description of a checkpoint, without loading the model."""
    name, count, stated = _name(path), parameters(path), licence(path)
    try:
        read, runs = checkpoints.read(path), "native"
    except CheckpointError as error:
        try:
            read, runs = checkpoints.read(path, "transformers"), "transformers"
            _known_to_transformers(read)
        except CheckpointError as other:
            why = other if "remote code" in str(other) or "not supported" in str(other) else error
            return Row(name, str(path), "no", "", (), count, stated, str(why))
        if read.family is not None:  # a native family, but invalid
            return Row(name, str(path), "no", "", (), count, stated, str(error))
    format = "argus" if read.vocabulary else read.format
    return Row(name, str(path), runs, format, read.tasks, count, stated)


def _name(path: Path) -> str:
    """The hub id of a folder in the hub's cache; else the folder's name."""
    if path.parent.name == "snapshots":
        return path.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    return path.name


def _known_to_transformers(read: Checkpoint) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if read.config["model_type"] not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise CheckpointError(
            f"model_type {read.config['model_type']!r} is not supported, nor by transformers"
        )


def parameters(path: Path) -> int:
    """Number of parameters in a folder's safetensors files; 0 where they cannot be read."""
    from safetensors import SafetensorError, safe_open

    from argus_ros.vlm.models.weights import shards

    count = 0
    try:
        for shard in shards(path):
            with safe_open(shard, "np") as file:
                count += sum(int(np.prod(file.get_slice(n).get_shape())) for n in file.keys())  # noqa: SIM118
    except (CheckpointError, OSError, SafetensorError):
        return 0
    return count


def licence(path: Path) -> str:
    """The licence in the header of the model card (README.md)."""
    try:
        card = (path / "README.md").read_text(encoding="utf-8", errors="replace")[:20000]
    except OSError:
        return "Apache-2.0" if path.parent == checkpoints.SHIPPED else "not stated"
    header = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    stated = re.search(r"^license(?:_name)?:\s*[\"']?([\w.+-]+)", header[1] if header else "", re.MULTILINE)
    return stated[1] if stated else "not stated"


def _cells(row: Row) -> list[str]:
    count = f"{row.parameters / 1e6:,.1f} M" if row.parameters else "?"
    return [row.name, row.runs, row.format, ", ".join(row.tasks), count, row.licence]


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


# --- one held against transformers --------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """The result of loading and checking a checkpoint."""

    name: str
    runs: str
    prompts: str  #: number of prompts equal to the stock processor's
    tokens: str  #: number of answers equal to plain ``generate``'s, up to a tie
    boxes: str
    equal: bool


def check(name: str | Path) -> Checked:
    """Load a checkpoint in float32 on the CPU and compare it with transformers. Raises CheckpointError."""
    path = checkpoints.find(name)
    row = describe(path)
    if row.runs == "no":
        raise CheckpointError(row.why)
    return _check_native(path, row) if row.runs == "native" else _check_generic(path, row)


def pictures() -> Iterator[np.ndarray]:
    from argus_ros.tools.pictures import photograph

    yield from (photograph(size, seed) for seed, size in enumerate(SIZES))


def _check_native(path: Path, row: Row) -> Checked:
    import torch

    from argus_ros.core.preparation import plan
    from argus_ros.vlm.decoding.generation import Limits
    from argus_ros.vlm.decoding.reference import TransformersModel
    from argus_ros.vlm.engine.native import Engine

    engine = Engine(EngineConfig(str(path), device="cpu", dtype="float32"))
    stock = TransformersModel(engine.checkpoint, torch.device("cpu"), torch.float32)
    free = [Task("caption"), Task("ask", prompt="What is to be seen?")]
    tasks = [task for task in free if task.name in row.tasks] or [
        _structured(row.tasks[0], engine.info.classes)
    ]
    same_prompts = same_tokens = count = 0
    for image in pictures():
        height, width = image.shape[:2]
        rows, columns = plan(width, height, engine.checkpoint.tiling)
        for task in tasks:
            inputs = stock.stock_inputs(image, task)
            request = FrameRequest(0, 0, rows, columns, width, height, task, max_new_tokens=NEW)
            prompt, grammar = engine.prompt_and_grammar(request)
            same_prompts += list(prompt.ids) == inputs["input_ids"][0].tolist()
            tiles = stock_tiles(inputs["pixel_values"], engine.checkpoint)
            made = engine.generate(request, tiles)
            ours = [int(grammar.tokens[column]) for column in made.columns]
            if engine.checkpoint.vocabulary is None:
                theirs = stock.stock(image, task, NEW)
            else:  # an Argus checkpoint uses its grammar in transformers, too
                limits = Limits(len(made.columns), request.max_detections)
                other = stock.generate(prompt, grammar, tiles, limits)
                theirs = [int(grammar.tokens[column]) for column in other.columns]
            same_tokens += agrees(ours, theirs, made.logits)
            count += 1
    boxes = "-"
    if wanted := [name for name in row.tasks if name in STRUCTURED_TASKS]:
        request = FrameRequest(
            0, 0, 0, 0, 640, 480, _structured(wanted[0], engine.info.classes), max_new_tokens=96
        )
        tiles = np.full((1, engine.info.tile, engine.info.tile, 3), 127, np.uint8)
        answer = engine.run([request], [tiles])[0]
        boxes = _boxes(answer.detections, answer.dropped)
    note = " (under the grammar)" if engine.checkpoint.vocabulary else ""
    return Checked(
        row.name,
        row.runs,
        f"{same_prompts} of {count}",
        f"{same_tokens} of {count}{note}",
        boxes,
        same_prompts == same_tokens == count,
    )


def _structured(name: str, classes: Sequence[str]) -> Task:
    return Task(name, tuple(classes) or CLASSES, CLASSES[0])


def _boxes(detections: Sequence[object], dropped: int) -> str:
    return f"{len(detections)} read, {dropped} dropped"


def stock_tiles(pixels: Any, checkpoint: Checkpoint) -> np.ndarray:
    """The stock processor's pixels (…, 3, side, side) before normalisation, (tiles, side, side, 3)."""
    from argus_ros.vlm.models.vision import Normalisation

    normal = Normalisation.read(checkpoint)
    planes = pixels.reshape(-1, *pixels.shape[-3:]).permute(0, 2, 3, 1).numpy()
    levels = (planes * np.array(normal.std) + np.array(normal.mean)) / normal.scale
    return levels.round().clip(0, 255).astype(np.uint8)


def agrees(ours: Sequence[int], theirs: Sequence[int], logits: np.ndarray) -> bool:
    """Whether two answers are equal, or differ first at a tie."""
    for step, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a != b:
            second, first = np.sort(logits[step])[-2:]
            return bool(first - second < TIE)
    return len(ours) == len(theirs)


def _check_generic(path: Path, row: Row) -> Checked:
    from argus_ros.vlm.engine import engines

    config = EngineConfig(str(path), "transformers", device="cpu", dtype="float32", preset="stock")
    engine: GenericEngine = engines.load(config)  # type: ignore[assignment]
    same = count = 0
    for image in pictures():
        height, width = image.shape[:2]
        frame = (width, height)
        request = FrameRequest(0, 0, 0, 0, width, height, Task("caption"), max_new_tokens=NEW, frame=frame)
        (answer,) = engines.run(engine, [request], [image])
        same += answer.text == engine.plain(image, Task("caption"), NEW)
        count += 1
    boxes = "-"
    if wanted := [name for name in row.tasks if name in STRUCTURED_TASKS]:
        task = _structured(wanted[0], ())
        request = FrameRequest(0, 0, 0, 0, width, height, task, max_new_tokens=96, frame=frame)
        (answer,) = engines.run(engine, [request], [image])
        boxes = _boxes(answer.detections, answer.dropped)
    own = f"{count} of {count} (its own processor)"
    return Checked(row.name, row.runs, own, f"{same} of {count}", boxes, same == count)
