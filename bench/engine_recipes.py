"""Ratios of the engine's recipes on this machine: engines side by side in one process, interleaved, warm.

    python bench/engine_recipes.py --checkpoint argus-nano --rounds 15 --tokens 40 --threads 1

Every engine answers the same frames in free text of the same length. Prints the median of each stage and,
per engine, the median of its ratios to ``stock`` (transformers' modules and ``generate``), taken round by
round, so that other load on the machine weighs on both.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.recipes import PRESETS, Recipes
from argus_ros.core.types import StageTimes, Task
from argus_ros.vlm import architecture, grammar
from argus_ros.vlm.generation import Limits, Model
from argus_ros.vlm.native import NativeModel
from argus_ros.vlm.reference import TransformersModel
from argus_ros.vlm.tokens import Tokens

STAGES = ("transfer", "vision", "prefill", "decode", "first_token")


def total(times: StageTimes) -> float:
    return times.transfer + times.vision + times.prefill + times.decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="argus-nano")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)

    checkpoint = checkpoints.read(given.checkpoint)
    cpu, float32 = torch.device("cpu"), torch.float32
    realtime = PRESETS["realtime"]
    models: dict[str, Model] = {
        "stock": TransformersModel(checkpoint, cpu, float32),
        "lean_modules": NativeModel(checkpoint, Recipes(lean_modules=True), cpu, float32),
        "realtime": NativeModel(checkpoint, realtime, cpu, float32),
    }
    for name in ("uint8_transfer", "prefix_kv", "compiled_step"):
        models[f"realtime without {name}"] = NativeModel(checkpoint, realtime.without([name]), cpu, float32)

    vision, text = architecture.read(checkpoint)
    tokens = Tokens(checkpoint, text.vocabulary)
    task = Task("ask" if "ask" in checkpoint.tasks else "caption", prompt="how many are there")
    prompt = tokens.prompt(task, 0, 0, vision.tokens)
    rules = grammar.without_end(grammar.build(task, tokens))
    rng = np.random.default_rng(0)
    taken: dict[str, list[StageTimes]] = {name: [] for name in models}
    for round_ in range(given.rounds + 2):
        tiles = rng.integers(0, 256, (1, vision.image, vision.image, 3), np.uint8)
        for name, model in models.items():
            times = model.generate(prompt, rules, tiles, Limits(given.tokens)).times
            if round_ >= 2:
                taken[name].append(times)

    report = {}
    machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": given.threads}
    print(f"{checkpoint.name}, {given.tokens} tokens, {machine}, ms:")
    print(f"{'':32}{''.join(f'{s:>12}' for s in (*STAGES, 'total'))}{'x stock':>10}")
    for name, times in taken.items():
        medians = {s: statistics.median(getattr(t, s) for t in times) * 1e3 for s in STAGES}
        medians["total"] = statistics.median(map(total, times)) * 1e3
        ratio = statistics.median(total(a) / total(b) for a, b in zip(taken["stock"], times, strict=True))
        report[name] = {"ms": medians, "ratio_to_stock": ratio}
        print(f"{name:32}{''.join(f'{m:12.2f}' for m in medians.values())}{ratio:10.2f}")
    if given.json:
        given.json.write_text(
            json.dumps({"machine": machine, "engines": report, "shape": asdict(vision)}, indent=1)
        )


if __name__ == "__main__":
    main()
