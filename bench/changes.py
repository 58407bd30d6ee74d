"""Compares two folders of results: `python3 bench/changes.py BEFORE AFTER`.

Files in only one folder are left out, as are differences below the noise of a few rounds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Smaller relative changes are noise.
NOISE = 0.03


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    before, after = map(Path, sys.argv[1:])
    for file in sorted(after.glob("*.json")):
        if (before / file.name).is_file():
            try:
                old, new = (json.loads((folder / file.name).read_text()) for folder in (before, after))
            except ValueError as error:
                print(f"{file.name} cannot be read: {error}")
                continue
            if lines := list(changes(dict(figures(old)), dict(figures(new)))):
                print(f"{file.stem}, {where(old)} -> {where(new)}:")
                print("\n".join(f"  {line}" for line in lines))
    return 0


def where(result: dict[str, Any]) -> str:
    return f"{result['machine']['gpu'] or result['machine']['processor']} at {result['commit']}"


def figures(result: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Milliseconds by name: medians of `argus bench`, steps of `bench/decode_kernels.py`."""
    for kind, name in (("presets", ""), ("ladder", "adds"), ("ablation", "removes")):
        entries = result.get(kind, {})
        named = entries.items() if isinstance(entries, dict) else [(e[name], e) for e in entries]
        for preset, entry in named:
            for metric in ("ttft_ms", "ms_per_token", "total_ms"):
                if metric in entry:
                    yield f"{kind} {preset}: {metric}", entry[metric]["p50"]
    for model, counts in result.get("kernels", {}).items():
        for count, times in counts.items():
            steps = {name: took for name, took in times.items() if isinstance(took, float)}
            yield f"{model}, {count} tokens: plain", steps.pop("plain")
            if steps:
                yield f"{model}, {count} tokens: best of fused", min(steps.values())


def changes(old: dict[str, float], new: dict[str, float]) -> Iterator[str]:
    for name in new:
        if name in old and abs(new[name] / old[name] - 1) > NOISE:
            yield f"{name} {old[name]:.3f} -> {new[name]:.3f} ({new[name] / old[name] - 1:+.0%})"


if __name__ == "__main__":
    raise SystemExit(main())
