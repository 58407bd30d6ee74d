"""Measures drafts on rendered films of a still, a slow and a fast camera, and on single scenes.

    python bench/last_frame_draft.py --checkpoint argus-nano --json bench/results/last_frame_draft.json

Every frame is answered with and without recipes last_frame_draft and box_draft; the tokens have to be
equal, except at ties. A scene has no frame before it, so that only box_draft drafts, if the checkpoint has a
head. On a CPU, times are the process's own CPU time, so that other load on the machine has less effect.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the engine's process

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from argus_ros.core.image import Pixels
from argus_ros.core.preparation import scale
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.tools import machine
from argus_ros.tools.evaluate import from_scenes, prepared
from argus_ros.training.scenes.film import Walk, film
from argus_ros.vlm.decoding.generation import Generated
from argus_ros.vlm.decoding.native import ON_DEVICE, NativeModel
from argus_ros.vlm.engine.native import Engine

SPEEDS = {"still": 0.0, "slow": 0.7, "fast": 1.4}  # metres per second
SETTLING = 3  # first frames, without a last answer
TIE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="argus-nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="seconds of each film, at 15 frames per second"
    )
    parser.add_argument("--scenes", type=int, default=0, help="number of single scenes, besides the films")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--gpu-drafts",
        action="store_true",
        help="draft as on a GPU, where more tokens in a pass are nearly free",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    plain, drafting = (
        Engine(EngineConfig(given.checkpoint, device=given.device, preset=preset, threads=given.threads))
        for preset in ("realtime-last_frame_draft-box_draft", "realtime")
    )
    if given.gpu_drafts and isinstance(drafting.model, NativeModel):
        drafting.model.pass_costs = ON_DEVICE
    films, scenes = {}, {}
    for name, speed in SPEEDS.items():
        walk = Walk(seed=given.seed, seconds=given.seconds, speed=speed)
        films[name] = measure(plain, drafting, shown(walk, plain.info.tile), SETTLING)
        print(name, *(f"{key} {value}" for key, value in films[name].items()), sep="  ")
    if given.scenes:
        frames = (prepared(plain, sample.image, Task()) for sample in from_scenes(given.scenes, 0, "val"))
        scenes = measure(plain, drafting, frames, 0)
        print("scenes", *(f"{key} {value}" for key, value in scenes.items()), sep="  ")
    if given.json:
        setting = {"model": plain.info.name, "device": plain.info.device, "gpu_drafts": given.gpu_drafts}
        setting["box_draft"] = "box_draft" in drafting.info.recipes
        report = {**machine.describe(), **setting, "films": films, "scenes": scenes}
        given.json.write_text(json.dumps(report, indent=1) + "\n")


def shown(walk: Walk, tile: int) -> Iterator[tuple[FrameRequest, np.ndarray]]:
    """The frames of a film."""
    for i, shot in enumerate(film(walk)):
        tiles = scale(Pixels(shot.image, None), tile, tile)[None]
        yield (
            FrameRequest(i, 0, 0, 0, walk.width, walk.height, Task(), camera="film", taken=shot.seconds),
            tiles,
        )


def measure(
    plain: Engine, drafting: Engine, frames: Iterable[tuple[FrameRequest, np.ndarray]], settling: int
) -> dict[str, Any]:
    """Figures per frame, without the first ``settling`` frames."""
    clock = time.process_time if plain.info.device == "cpu" else time.perf_counter
    made: list[tuple[Generated, Generated]] = []
    seconds: list[list[float]] = []
    ties = 0
    for i, (request, tiles) in enumerate(frames):
        started, pair, taken = clock(), [], []
        for engine in (plain, drafting):
            pair.append(engine.generate(request, tiles))
            taken.append(clock() - started)
            started = clock()
        ties += tied(*pair)
        if i >= settling:
            made.append((pair[0], pair[1]))
            seconds.append(taken)
    passes = [sum(pair[i].passes for pair in made) for i in (0, 1)]
    accepted = sum(drafts.accepted for _, drafts in made)
    ratio = np.divide(*np.transpose(seconds))
    return {
        "frames": len(made),
        "tokens": round(sum(len(a.columns) for a, _ in made) / len(made), 2),
        "passes_without": round(passes[0] / len(made), 2),
        "passes_with": round(passes[1] / len(made), 2),
        "fewer_passes": round(passes[0] / max(passes[1], 1), 2),
        "accepted_per_pass": round(accepted / (passes[1] + len(made)), 2),  # with those of the prompt's pass
        "drafted": sum(drafts.drafted for _, drafts in made),
        "accepted": accepted,
        "frame_ms_without": round(float(np.median(seconds, 0)[0]) * 1e3, 2),
        "frame_ms_with": round(float(np.median(seconds, 0)[1]) * 1e3, 2),
        "faster": round(float(np.median(ratio)), 3),
        "ties": ties,
    }


def tied(plain: Generated, drafts: Generated) -> bool:
    """Whether the answers differ first at a tie. Fails where they differ without one."""
    for step, (a, b) in enumerate(zip(plain.columns, drafts.columns, strict=False)):
        if a != b:
            second, first = np.sort(plain.logits[step])[-2:]
            if first - second > TIE:
                raise SystemExit(f"step {step}: {b} instead of {a}, which was better by {first - second}")
            return True
    if len(plain.columns) != len(drafts.columns):
        raise SystemExit("the answers differ in length")
    return False


if __name__ == "__main__":
    main()
