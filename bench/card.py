"""Write the figures of `argus evaluate` into docs/argus-nano.md: `python3 bench/card.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "docs" / "argus-nano.md", ROOT / "bench" / "results"
SPLITS = {
    "val": "`val`: unseen scenes",
    "heldout": "`heldout`: also drawings and backgrounds that training never saw",
}


def main() -> None:
    results = {split: json.loads((RESULTS / f"argus_nano_{split}.json").read_text()) for split in SPLITS}
    parts = (headline(results), by("per_class", "class", results), by("per_size", "side in pixels", results))
    text = "\n\n".join(parts)
    marks = r"(<!-- figures -->\n).*?(<!-- /figures -->)"
    page, found = re.subn(marks, lambda m: f"{m[1]}{text}\n{m[2]}", PAGE.read_text(), flags=re.S)
    if not found:
        raise SystemExit(f"{PAGE} has no <!-- figures --> and <!-- /figures -->")
    PAGE.write_text(page)


def headline(results: dict[str, dict[str, Any]]) -> str:
    """What was measured, and a row a split."""
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
        "    python3 bench/card.py   # writes them here",
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
    """F1 of every class or size, a column a split."""
    lines = [f"| {name} | {' | '.join(f'F1, `{split}`' for split in results)} |"]
    lines.append("|" + "---|" * (len(results) + 1))
    for row in next(iter(results.values()))[key]:
        figures = (f"{result[key][row]['f1']:.2f}" for result in results.values())
        lines.append(f"| {row} | {' | '.join(figures)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
