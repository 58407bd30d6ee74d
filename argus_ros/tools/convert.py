"""`argus convert`: make an Argus checkpoint from a SmolVLM folder, or from a SigLIP and a Llama folder.

The checkpoint answers with boxes of location tokens, and is the base for ``argus train --base``. Its boxes
are random until it is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from argus_ros.training.conversion import convert


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="folder or cached hub id of SmolVLM, SmolVLM2, Idefics3 or SigLIP")
    parser.add_argument(
        "--language",
        help="folder or cached hub id of SmolLM2 or another Llama, where the checkpoint is SigLIP",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist yet")
    parser.add_argument("--bins", type=int, default=1000, help="location bins per axis, 2 to 1000")
    parser.add_argument("--max-objects", type=int, default=32, help="maximum objects in an answer")
    parser.add_argument(
        "--shuffle",
        type=int,
        default=0,
        metavar="N",
        help="with --language: N x N patches become a visual token; 0: the smallest N with at most 81 tokens",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the new weights")


def run(options: argparse.Namespace) -> int:
    parameters = convert(
        options.checkpoint,
        options.out,
        options.language,
        bins=options.bins,
        max_objects=options.max_objects,
        shuffle=options.shuffle,
        seed=options.seed,
    )
    print(
        f"{options.out}: {parameters / 1e6:,.1f} M parameters, untrained for boxes; train it with: "
        f"argus train --base {options.out} --data INSTANCES --images FOLDER"
    )
    return 0
