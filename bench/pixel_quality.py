"""Measures the F1 with the pixels of direct_resize and device_resize, compared with the stock processor's.

    python bench/pixel_quality.py --scenes 1000 --json bench/results/pixel_quality.json

Scenes, weights and engine are the same each time; only the tiles differ. The interval is of the difference to
the stock processor's pixels, from resampled scenes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from argus_ros.core.matching import Truth, match
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.types import Task
from argus_ros.tools import machine
from argus_ros.tools.evaluate import prepared
from argus_ros.tools.workload import stock_tiles
from argus_ros.training import scenes
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.processors import stock_processor

WAYS = ("stock", "direct_resize", "device_resize")
#: Number of resampled sets of scenes.
DRAWS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="argus-nano")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--split", choices=scenes.SPLITS[1:], default="val")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)

    presets = ("realtime-device_resize", "realtime+device_resize")
    host, device = (
        Engine(EngineConfig(given.checkpoint, device=given.device, dtype="float32", preset=preset))
        for preset in presets
    )
    processor = stock_processor(host.checkpoint).image_processor
    task = Task("detect", scenes.CLASSES)
    counts = np.zeros((len(WAYS), given.scenes, 3), int)  # hits, detections, objects
    difference = np.zeros(len(WAYS))
    for number in range(given.scenes):
        scene = scenes.render(number, given.split, (640, 480))
        truths = [Truth(t.label, t.box, f"{t.colour} {t.label}".strip()) for t in scene.objects]
        request, tiles = prepared(host, scene.image, task)
        stock = stock_tiles(processor, scene.image)
        framed, frame = prepared(device, scene.image, task)
        asked = ((host, request, stock), (host, request, tiles), (device, framed, frame))
        for way, (engine, asks, pixels) in enumerate(asked):
            found = engine.run([replace(asks, id=number)], [pixels])[0].detections
            counts[way, number] = len(match(found, truths)), len(found), len(truths)
        layout = request.rows, request.columns
        assert isinstance(device.model, NativeModel)
        cut = device.model.upload.cut(torch.from_numpy(scene.image).to(device.model.device), *layout)
        for way, ours in ((1, tiles), (2, cut.cpu().numpy())):
            difference[way] += np.abs(ours.astype(int) - stock).mean() / given.scenes

    draws = np.random.default_rng(0).integers(0, given.scenes, (DRAWS, given.scenes))
    resampled = f1(counts[:, draws].sum(2))
    figures = {}
    for way, name in enumerate(WAYS):
        low, high = np.quantile(resampled[way] - resampled[0], (0.025, 0.975))
        value = float(f1(counts[way].sum(0)))
        figures[name] = {
            "f1": round(value, 4),
            "to_stock": round(value - float(f1(counts[0].sum(0))), 4),
            "to_stock_95": [round(float(low), 4), round(float(high), 4)],
            "mean_difference_of_255": round(float(difference[way]), 3),
        }
        print(f"{name:14} {figures[name]}")
    if given.json:
        about = {"checkpoint": host.info.name, "split": given.split, "scenes": given.scenes}
        given.json.write_text(json.dumps({**machine.describe(), **about, "pixels": figures}, indent=1) + "\n")


def f1(counts: np.ndarray) -> np.ndarray:
    """(…, 3) of hits, detections and objects to F1 (…)."""
    return 2 * counts[..., 0] / (counts[..., 1] + counts[..., 2])


if __name__ == "__main__":
    main()
