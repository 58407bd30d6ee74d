"""Measures recipe camera_batch: frames of several cameras in one pass, and one by one.

    python bench/camera_batch.py --checkpoint argus-nano --json bench/results/camera_batch.json

The films are rendered and the cameras move. Batches and single frames alternate on one engine, and ratios are
computed per frame, so that other load on the machine affects both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the engine's process

import numpy as np

from argus_ros.core.image import Pixels
from argus_ros.core.preparation import scale
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.tools import machine
from argus_ros.training.scenes.film import Walk, film
from argus_ros.vlm.engine.native import Engine

SETTLING = 3  # first frames, without a last answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="argus-nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="seconds of each film, at 15 frames per second"
    )
    parser.add_argument("--cameras", type=int, default=4, help="largest batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()

    engine = Engine(EngineConfig(given.checkpoint, device=given.device, threads=given.threads))
    if not engine.recipes.camera_batch:
        raise SystemExit(f"{given.checkpoint} does not support camera_batch on this device")
    side, films = engine.info.tile, []
    for seed in range(given.cameras):
        shots = film(Walk(seed=seed, seconds=given.seconds))
        films.append([scale(Pixels(shot.image, None), side, side)[None] for shot in shots])
    figures = {str(n): measure(engine, films[:n]) for n in range(2, given.cameras + 1)}
    print(f"{given.checkpoint} on {engine.info.device}, one by one / in one pass:")
    for count, found in figures.items():
        print(f"  {count} cameras  {found['ratio']:.2f}  ({found['p25']:.2f} to {found['p75']:.2f})")
    if given.json:
        text = json.dumps({**machine.describe(), "model": engine.info.name, "cameras": figures}, indent=1)
        given.json.write_text(text + "\n")


def measure(engine: Engine, films: Sequence[Sequence[np.ndarray]]) -> dict[str, float]:
    """Seconds of frames one by one over seconds of one pass: median and quartiles."""
    request, ratios = FrameRequest(0, 0, 0, 0, 640, 480, Task("detect")), []
    for frame, views in enumerate(zip(*films, strict=True)):
        seconds = {}
        for way, size in (("together", len(views)), ("alone", 1)):
            named = [(replace(request, camera=f"{way} {i}"), view) for i, view in enumerate(views)]
            started = time.perf_counter()
            for first in range(0, len(views), size):
                part = named[first : first + size]
                engine.run([r for r, _ in part], [v for _, v in part])
            seconds[way] = time.perf_counter() - started
        if frame >= SETTLING:
            ratios.append(seconds["alone"] / seconds["together"])
    quartiles = np.quantile(ratios, [0.25, 0.75])
    return {
        "ratio": round(statistics.median(ratios), 3),
        "p25": round(float(quartiles[0]), 3),
        "p75": round(float(quartiles[1]), 3),
        "frames": len(ratios),
    }


if __name__ == "__main__":
    main()
