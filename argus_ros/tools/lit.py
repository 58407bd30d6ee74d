"""`argus lit`: render a bank of things with real lighting, for `--lit` of `argus train` and `argus evaluate`.

A bank of ``--split train`` or ``val`` shows all models of a class but the last one, ``heldout`` only it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.progress import Progress

from argus_ros.training import scenes
from argus_ros.training.scenes.renderer import render_bank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out/lit.npz"), help="file of the bank")
    parser.add_argument("--sprites", type=int, default=4000, help="how many things to render")
    parser.add_argument("--split", choices=scenes.SPLITS, default="train", help="whose models to show")
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
