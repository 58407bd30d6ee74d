"""`argus lit`: render a bank of objects with realistic lighting, to train on or to measure with.

A bank of ``--split train`` or ``val`` has all models of a class but the last, ``heldout`` only the last one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.progress import Progress

from argus_ros.training import scenes
from argus_ros.training.scenes.renderer import render_bank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out/lit.npz"), help="file of the bank")
    parser.add_argument("--sprites", type=int, default=4000, help="number of objects to render")
    parser.add_argument(
        "--split", choices=scenes.SPLITS, default="train", help="the split whose models are rendered"
    )
    parser.add_argument("--seed", type=int, default=0, help="of proportions, views and lights")


def run(options: argparse.Namespace) -> int:
    with Progress(transient=True) as progress:
        bar = progress.add_task("sprites", total=options.sprites)
        bank = render_bank(
            options.sprites, options.split, options.seed, lambda done: progress.update(bar, completed=done)
        )
    bank.save(options.out)
    print(f"{len(bank.sprites)} sprites ({bank.split}) in {options.out}")
    return 0
