"""What the set-up of the engine's process and the vision encoder's GELU save on the CPU, by turns.

    python3 bench/process_setup.py --checkpoint argus-nano-real --threads 1

Each turn is a process of its own. ``before`` has glibc's and OpenMP's defaults and torch's GELU. Ratios are
taken between neighbours, so a load of the machine that lasts is in both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

STAGES = "vision", "prefill", "frame", "processor"


def turn(checkpoint: str, threads: int, frames: int, after: bool) -> dict[str, float]:
    """Median milliseconds of the stages of a frame, its processor time, and its page faults."""
    if after:
        import argus_ros.core.process  # noqa: F401
    import numpy as np
    import torch

    from argus_ros.core.protocol import EngineConfig, FrameRequest
    from argus_ros.core.types import Task
    from argus_ros.vlm.engine.native import Engine
    from argus_ros.vlm.models import elementwise

    if not after:
        elementwise.gelu = lambda x, kind: torch.nn.functional.gelu(x, approximate=kind)
    engine = Engine(EngineConfig(checkpoint, device="cpu", threads=threads, preset="realtime"))
    request, side = FrameRequest(0, 0, 0, 0, 640, 480, Task("detect")), engine.info.tile
    tiles = np.random.default_rng(0).integers(0, 256, (frames, 1, 8, 8, 3), np.uint8)
    tiles = tiles.repeat(-(-side // 8), 2).repeat(-(-side // 8), 3)[:, :, :side, :side]
    engine.warm_up()
    took: dict[str, list[float]] = {name: [] for name in STAGES}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for tile in tiles:
        wall, processor = time.perf_counter(), time.process_time()
        made = engine.generate(request, tile)
        seconds = made.times.vision, made.times.prefill, time.perf_counter() - wall
        for name, value in zip(STAGES, (*seconds, time.process_time() - processor), strict=True):
            took[name].append(1e3 * value)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {name: statistics.median(values) for name, values in took.items()} | {"faults": faults / frames}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="argus-nano-real")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--turn", choices=("before", "after"), help="run one turn and print its figures")
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(turn(options.checkpoint, options.threads, options.frames, options.turn == "after")))
        return
    own = "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"
    environment = {k: v for k, v in os.environ.items() if k not in own} | {"OPENBLAS_NUM_THREADS": "1"}
    given = [
        "--checkpoint",
        options.checkpoint,
        "--threads",
        str(options.threads),
        "--frames",
        str(options.frames),
    ]
    found: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
    for _ in range(options.turns):
        for way, results in found.items():
            command = [sys.executable, __file__, *given, "--turn", way]
            made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            results.append(json.loads(made.stdout))
    load = os.getloadavg()[1]
    print(
        f"{options.checkpoint}, {options.threads} threads, {options.turns} turns by {options.frames} frames, "
        f"load {load:.0f}"
    )
    for name in (*STAGES, "faults"):
        before, after = ([result[name] for result in found[way]] for way in found)
        ratios = sorted(a / b for a, b in zip(before, after, strict=True))
        medians = statistics.median(before), statistics.median(after)
        print(
            f"{name:10} {medians[0]:9.1f} {medians[1]:9.1f}   "
            f"{statistics.median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
