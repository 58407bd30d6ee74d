"""Writes the figures of `argus evaluate` into the checkpoints' cards: `python3 bench/card.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
SPLITS = {
    "val": "`val`: unseen scenes",
    "heldout": "`heldout`: also drawings and backgrounds that training never saw",
}


def main() -> None:
    write("argus-nano.md", scenes_card)
    write("argus-nano-real.md", photographs_card)


def write(page: str, card: Callable[[], str]) -> None:
    """Replace a card's figures between the two marks of its page."""
    file = ROOT / "docs" / page
    marks = r"(<!-- figures -->\n).*?(<!-- /figures -->)"
    text, found = re.subn(marks, lambda m: f"{m[1]}{card()}\n{m[2]}", file.read_text(), flags=re.S)
    if not found:
        raise SystemExit(f"{file} has no <!-- figures --> and <!-- /figures -->")
    file.write_text(text)


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def scenes_card() -> str:
    results = {split: load(f"argus_nano_{split}") for split in SPLITS}
    return "\n\n".join(
        (headline(results), by("per_class", "class", results), by("per_size", "side in pixels", results))
    )


def headline(results: dict[str, dict[str, Any]]) -> str:
    """How the figures were measured, and one row per split."""
    first = next(iter(results.values()))
    columns = {
        "F1": "f1",
        "precision": "precision",
        "recall": "recall",
        "mean IoU of hits": "mean_iou",
        "mAP 0.50 to 0.95": "map",
        "descriptions right": "description_accuracy",
        "asked-for subset respected": "subset_respected",
        "calibration error": "ece",
    }
    lines = [
        f"{first['scenes']:,} scenes of 640x480 each with 0 to 8 objects, IoU 0.5, on {first['date']}:",
        "",
        "    argus evaluate --scenes 1000 --json bench/results/argus_nano_val.json",
        "    argus evaluate --scenes 1000 --split heldout --json bench/results/argus_nano_heldout.json",
        "    python3 bench/card.py   # writes the tables",
        "",
        f'| | {" | ".join(columns)} | "how many" right | "is there" right |',
        "|" + "---|" * (len(columns) + 3),
    ]
    for split, result in results.items():
        figures = [result[key] for key in columns.values()]
        figures += [result["ask"]["how_many"], result["ask"]["is_there"]]
        lines.append(f"| {SPLITS[split]} | {' | '.join(f'{x:.2f}' for x in figures)} |")
    return "\n".join(lines)


def by(key: str, name: str, results: dict[str, dict[str, Any]]) -> str:
    """F1 of every class or size, one column per split."""
    rows = [
        [row, *(f"{result[key][row]['f1']:.2f}" for result in results.values())]
        for row in next(iter(results.values()))[key]
    ]
    return table([name, *(f"F1, `{split}`" for split in results)], rows)


def photographs_card() -> str:
    result = load("argus_nano_real")
    summary = {
        "F1": result["f1"],
        "precision": result["precision"],
        "recall": result["recall"],
        "mean IoU of hits": result["mean_iou"],
        "mAP 0.50": result["map_50"],
        "calibration error": result["ece"],
        '"how many" right': result["ask"]["how_many"],
        '"is there" right': result["ask"]["is_there"],
    }
    parts = [
        f"{result['pictures']:,} photographs that training did not see, objects with a side of at least "
        f"{result['min_side']:g} pixels (of 384), detections with a score of {result['score']:g} or more "
        f"(the node's default), IoU 0.5, on {result['date']}:",
        table(list(summary), [[f"{value:.2f}" for value in summary.values()]]),
        unnamed(result["unnamed"]),
        counted("class", result["per_class"]),
        counted("side in pixels", result["per_size"]),
        counted("source", result["per_group"]),
        "Most frequent confusions: "
        + ", ".join(f"{r['is']} taken for {r['taken_for']} ({r['count']})" for r in result["confused"][:8])
        + ".",
    ]
    return "\n\n".join(parts)


def unnamed(result: dict[str, Any]) -> str:
    f1, precision, recall = (f"{result[key]:.2f}" for key in ("f1", "precision", "recall"))
    return (
        "Here each photograph was asked for the classes that it is completely labelled for, by name. Without "
        f"`classes` F1 is {f1} (precision {precision}, recall {recall}); there are then "
        f"{result['others_per_picture']:.2f} detections per photograph of other classes, right or wrong."
    )


def counted(name: str, rows: dict[str, dict[str, Any]]) -> str:
    """F1, precision and recall of each row that has objects."""
    lines = [
        [key, *(f"{row[k]:.2f}" for k in ("f1", "precision", "recall")), str(row["objects"])]
        for key, row in rows.items()
        if row["objects"]
    ]
    return table([name, "F1", "precision", "recall", "objects"], lines)


def table(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *(f"| {' | '.join(r)} |" for r in rows)]
    )


if __name__ == "__main__":
    main()
