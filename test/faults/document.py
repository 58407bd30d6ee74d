"""Writes the table of faults into docs/reliability.md: ``python -m faults.document MEASURED.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from faults.table import FAULTS

PATH = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: written by make faults -->\n", "<!-- end of faults -->"


def table(measured: dict[str, object]) -> str:
    trials = {(t["group"], t["name"]): t for t in measured["trials"]}  # type: ignore[attr-defined, index]
    lines = [
        "| part | fault | diagnostics say | after [s] | answers again after [s] | images | without outcome |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        trial = trials.get((fault.group, fault.name))
        if trial is None:
            figures = "not tried | | | |"
        else:
            said = f"{trial['told_after']:.1f}" if fault.status else ""
            figures = f"{said} | {trial['recovered_after']:.1f} | {trial['arrived']} | {trial['lost']} |"
        says = f"{fault.status}: {fault.says}" if fault.status else "nothing"
        lines.append(f"| {fault.group} | {fault.name} | {says} | {figures}")
    return "\n".join(lines) + "\n"


def main() -> None:
    measured = json.loads(Path(sys.argv[1]).read_text())
    before, _, rest = PATH.read_text().partition(BEGIN)
    cold = f"The engine's cold start took {measured['cold_start']:.1f} s.\n\n"
    PATH.write_text(before + BEGIN + cold + table(measured) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
