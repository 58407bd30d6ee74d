"""`argus average`: the mean of the weights of checkpoints trained from the same base.

Such a mean is often more accurate than each of them (model soups, arXiv 2203.05482). Calibrate it again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import Checkpoint, CheckpointError
from argus_ros.vlm.models.weights import shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", nargs="+", help="two or more: shipped names or folders")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist yet")


def run(options: argparse.Namespace) -> int:
    if len(options.checkpoint) < 2:
        raise ValueError("give two checkpoints or more")
    if options.out.exists():
        raise ValueError(f"{options.out} exists already; give a new folder")
    read = [checkpoints.read(name) for name in options.checkpoint]
    for other in read:
        if _uncalibrated(other) != _uncalibrated(read[0]):
            raise ValueError(f"{other.path} and {read[0].path} differ in more than their weights")
    folders = [checkpoint.path for checkpoint in read]
    mean = average(folders)
    shutil.copytree(folders[0], options.out, ignore=shutil.ignore_patterns("*.safetensors*"))
    save_file(mean, options.out / "model.safetensors", metadata={"format": "pt"})
    shutil.copymode(options.out / "config.json", options.out / "model.safetensors")
    print(
        f"mean of {len(folders)} checkpoints in {options.out}; calibrate it with: "
        f"argus evaluate --checkpoint {options.out} --seed 500000 --scenes 300 --fit-temperature"
    )
    return 0


def average(folders: list[Path]) -> dict[str, torch.Tensor]:
    """Mean of all weights by name, in the dtype of the first checkpoint."""
    total: dict[str, torch.Tensor] = {}
    first: dict[str, torch.Tensor] = {}
    for folder in folders:
        weights = {name: w for file in shards(folder) for name, w in load_file(file).items()}
        first = first or weights
        shapes = {name: w.shape for name, w in weights.items()}
        if shapes != {name: w.shape for name, w in first.items()}:
            raise CheckpointError(f"{folder} and {folders[0]} have different weights or shapes")
        for name, w in weights.items():
            total[name] = total[name] + w.double() if name in total else w.double()
    return {name: (w / len(folders)).to(first[name].dtype) for name, w in total.items()}


def _uncalibrated(checkpoint: Checkpoint) -> dict[str, object]:
    """The configuration without the values that calibration writes."""
    known = {key: value for key, value in checkpoint.config.get("argus", {}).items() if key != "temperature"}
    return checkpoint.config | {"argus": known}
