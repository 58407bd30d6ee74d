"""Measures positions in space: 20 detections on a depth image of 1280x720, on one core.

.venv/bin/ros-env python bench/positions.py [--json bench/results/positions.json]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np

from argus_ros.core.lens import Lens
from argus_ros.core.space import locate
from argus_ros.tools import machine

SIZE = WIDTH, HEIGHT = 1280, 720
BOXES, ROUNDS = 20, 500
MATRIX = np.array([[900.0, 0, 639.5], [0, 900, 359.5], [0, 0, 1]])
LENSES = {"pinhole": Lens(MATRIX), "plumb_bob": Lens(MATRIX, np.array([-0.2, 0.05, 0.001, 0.0005, 0.0]))}
GROUND = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.0], [0, 0, 0, 1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    metres = rng.uniform(1, 8, (HEIGHT, WIDTH)).astype(np.float32)
    depths: dict[str, np.ndarray] = {"16UC1": (metres * 1e3).astype(np.uint16), "32FC1": metres}
    corner, span = rng.uniform((0, 0), (900, 400), (BOXES, 2)), rng.uniform(20, 300, (BOXES, 2))
    boxes = [tuple(box) for box in np.hstack([corner, corner + span])]
    found = {}
    for encoding, depth in depths.items():
        for name, lens in LENSES.items():
            seconds = []
            for _ in range(ROUNDS):
                begun = time.thread_time()
                locate(boxes, SIZE, lens, depth, GROUND)
                seconds.append(time.thread_time() - begun)
            p50, p95 = np.quantile(seconds, (0.5, 0.95))
            found[f"{encoding}, {name}"] = {"p50": float(p50), "p95": float(p95)}
            print(f"{encoding}, {name}: {1e3 * p50:.2f} ms, p95 {1e3 * p95:.2f} ms of processor time")
    if options.json:
        said = {**machine.describe(), "boxes": BOXES, "size": SIZE, "seconds": found}
        options.json.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
