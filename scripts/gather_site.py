#!/usr/bin/env python3
"""Gathers what the site of documents is built from: ``scripts/gather_site.py FOLDER``, as `make site` does.

The documents lie there as they do in the repository, with all that they link to, so that their links hold in
both. Pages made from code come beside: the help of every command.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Files of the repository that documents are, or link to.
GATHERED = ("*.md", "docs", "bench/results", "msg", "srv", "config", "LICENSE", "launch")


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    tracked = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        *GATHERED,
    ]
    for name in subprocess.run(tracked, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "docs" / "commands.md").write_text(commands())


def commands() -> str:
    """The help of every command of `argus`."""
    sys.path.insert(0, str(ROOT))
    main = importlib.import_module("argus_ros.tools.main")
    lines = ["# Commands of argus", "", "Made from the program: what `argus COMMAND --help` prints.", ""]
    for name, purpose in main.COMMANDS.items():
        words = [sys.executable, "-m", "argus_ros.tools.main", name, "--help"]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
        lines += [
            f"## {name}",
            "",
            f"{purpose[0].upper()}{purpose[1:]}.",
            "",
            "```text",
            done.stdout.strip(),
            "```",
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
