"""Write the figures of bench/results/ into docs/recipes.md: `python3 bench/tables.py`."""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "docs" / "recipes.md", ROOT / "bench" / "results"


def main() -> int:
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    benches = {name: r for name, r in results.items() if "rounds" in r}
    if not benches:
        print(f"{RESULTS} has no figures; run bench/cpu_suite.sh or bench/gpu_suite.sh", file=sys.stderr)
        return 1
    page = PAGE.read_text()
    tables = "\n".join([*map(table, benches.values()), shares(results)]).rstrip()
    page = re.sub(r"(<!-- figures -->\n).*?(<!-- /figures -->)", rf"\g<1>{tables}\n\g<2>", page, flags=re.S)
    sections = re.split(r"^(?=## )", page, flags=re.M)
    PAGE.write_text("".join(with_gain(section, benches) for section in sections))
    return 0


def with_gain(section: str, benches: dict[str, Any]) -> str:
    """A recipe's section with its measured gain; others as they are."""
    title = re.match(r"## (\w+)\n", section)
    if not title:
        return section
    return re.sub(r"^Measured: .*$", lambda _: f"Measured: {gain(title[1], benches)}", section, flags=re.M)


def where(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    name = machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"
    return f"{name}; torch {versions['torch']}, transformers {versions['transformers']}; {result['date']}"


def table(result: dict[str, Any]) -> str:
    """Presets of one run, medians."""
    full = "tokens" in result
    keys = ["preprocess_ms", "ttft_ms", "ms_per_token", "total_ms"] if full else ["preprocess_ms"]
    heads = ["preprocess ms", "TTFT ms", "ms per token", "total ms"][: len(keys)]
    metric = "total" if full else "preprocess"
    about = f"{result['tokens']} tokens" if full else f"{result['tiles']} tiles, preprocessing alone"
    lines = [
        f"**{result['model']}**, {result['size']}, {about}. {where(result)}.",
        "",
        f"| | {' | '.join(heads)} | times stock | 10-90% |",
        "|" + "---|" * (len(keys) + 3),
    ]
    for name, f in result["presets"].items():
        low, high = f["ratio_spread"][metric]
        cells = [f"{f[key]['p50']:.2f}" for key in keys]
        ratio = f["ratio_to_stock"][metric]
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio:.2f} | {low:.2f}-{high:.2f} |")
    if floor := result.get("floor"):
        cells = ["", *(f"{floor[key]:.2f}" for key in keys[1:])]
        lines.append(f"| floor | {' | '.join(cells)} | | |")
    return "\n".join([*lines, ""])


def shares(results: dict[str, Any]) -> str:
    """What the profiles say is not the model's own work."""
    lines = []
    for result in results.values():
        if "rounds" not in result:
            parts = [f"{name} {p['outside_model_percent']:.0f}%" for name, p in result["presets"].items()]
            lines.append(
                f"Of a frame of {result['model']}, outside the model's own work: {', '.join(parts)}."
            )
    return "\n".join([*lines, ""])


def gain(recipe: str, benches: dict[str, Any]) -> str:
    """What adding it to the recipes above it saved, and what taking it from realtime cost."""
    parts = []
    for name, result in benches.items():
        said = []
        ladder = result.get("ladder", [])
        for before, after in pairwise(ladder):
            if after["adds"] == recipe:
                a, b = (f["total_ms"]["p50"] for f in (before, after))
                said.append(f"added in turn {a:.1f} to {b:.1f} ms a frame")
        for figure in result.get("ablation", []):
            if figure["removes"] == recipe:
                a, b = result["presets"]["realtime"]["total_ms"]["p50"], figure["total_ms"]["p50"]
                said.append(f"without it {b:.1f} in place of {a:.1f} ms")
        if recipe == "direct_resize" and "tokens" not in result:
            a, b = (result["presets"][p]["preprocess_ms"]["p50"] for p in ("stock", "realtime"))
            said.append(f"{a:.1f} to {b:.1f} ms for {result['tiles']} tiles of {result['size']}")
        if said:
            parts.append(f"{result['model']}: {', '.join(said)} (`bench/results/{name}.txt`)")
    return "; ".join(parts) + "." if parts else "not on a machine at hand so far."


if __name__ == "__main__":
    raise SystemExit(main())
