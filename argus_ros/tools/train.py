"""`argus train`: train argus-nano on synthetic scenes; interrupted, the same command goes on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from argus_ros.training.loop import Plan, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Plan(Path("out/argus-nano"))
    parser.add_argument(
        "--out", type=Path, default=defaults.out, help="folder for the state, log and checkpoint"
    )
    parser.add_argument("--base", default="", help="checkpoint to start from: a shipped name or a folder")
    parser.add_argument("--tile", type=int, default=0, help="side of the input in pixels; 0: as the base has")
    parser.add_argument("--samples", type=int, default=defaults.samples, help="scenes to train on in all")
    parser.add_argument("--batch", type=int, default=defaults.batch, help="scenes per step")
    parser.add_argument("--lr", type=float, default=defaults.lr, help="learning rate before it falls")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of the weights and the scenes")
    parser.add_argument(
        "--processes", type=int, default=defaults.processes, help="0: one on a GPU, else one per core"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default=defaults.precision,
        help="of the passes; auto: bfloat16 where the device multiplies faster in it",
    )


def run(options: argparse.Namespace) -> int:
    plan = Plan(
        out=options.out,
        samples=options.samples,
        batch=options.batch,
        lr=options.lr,
        seed=options.seed,
        processes=options.processes,
        base=options.base,
        precision=options.precision,
        tile=options.tile,
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("samples", total=plan.samples, state="starting")

        def report(entry: dict[str, float]) -> None:
            state = "dense {dense:.3f}  answer {answer:.3f}  {samples_per_second:.0f}/s".format(**entry)
            progress.update(bar, completed=entry["samples"], state=state)

        folder = train(plan, report)
    plot(plan.out)
    print(f"checkpoint in {folder}; measure it with: argus evaluate --checkpoint {folder}")
    return 0


def plot(folder: Path) -> None:
    """Draw the losses over the samples into ``curves.png``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name in ("dense", "answer"):
        known = [e for e in entries if e[name]]
        axes.plot([e["samples"] for e in known], [e[name] for e in known], label=f"{name} loss")
    axes.set_xlabel("samples")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(folder / "curves.png", dpi=100, bbox_inches="tight")
    pyplot.close(figure)
