#!/usr/bin/env python3
"""Gathers the source files of the documentation site: ``scripts/gather_site.py FOLDER``, as `make site` does.

The documents lie there as they do in the repository, with all that they link to, so that their links hold in
both. Pages made from code come beside: the help of every command, the messages, and the Python that programs
without ROS may build on, which mkdocstrings fills in.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Files of the repository that are documents, or that documents link to.
GATHERED = ("*.md", "docs", "bench/results", "msg", "srv", "config", "LICENSE", "launch")

#: What programs without ROS may build on, by heading.
PYTHON = {
    "One image at a time": ("core.offline.Offline", "core.engine_client.EngineDownError"),
    "Cameras with deadlines": (
        "core.pipeline.Pipeline",
        "core.pipeline.Camera",
        "core.frame.CameraPolicy",
        "core.frame.Level",
        "core.budget.ladder",
        "core.job.Report",
    ),
    "Checkpoints and the engine's options": (
        "core.checkpoint.read",
        "core.checkpoint.shipped",
        "core.checkpoint.Checkpoint",
        "core.checkpoint.CheckpointError",
        "core.protocol.EngineConfig",
        "core.recipes.Recipes",
    ),
    "Images": (
        "core.image.Image",
        "core.image.Region",
        "core.image.decode",
        "core.depth.decode_depth",
        "core.image.ImageError",
    ),
    "Questions and answers": (
        "core.types.Task",
        "core.types.Answer",
        "core.types.Detection",
        "core.types.StageTimes",
        "core.types.Status",
        "core.types.Outcome",
    ),
    "Positions and tracks": ("core.lens.Lens", "core.space.locate", "core.tracking.Tracker"),
    "Recordings": ("tools.bag.Bag", "tools.bag.Frame"),
    "For plain transformers": ("vlm.processors.fast_processor",),
}


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
    made = {"commands": commands, "messages": messages, "python": python}
    for name, page in made.items():
        (folder / "docs" / f"{name}.md").write_text(page())


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


def messages() -> str:
    """Every message and service, as it is defined."""
    lines = [
        "# Messages and services",
        "",
        "[Topics and parameters](interface.md) says where they come from.",
        "",
    ]
    for file in sorted([*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")]):
        kind = "argus_ros/" + "/".join(file.relative_to(ROOT).with_suffix("").parts)
        lines += [f"## {kind}", "", "```text", file.read_text().strip(), "```", ""]
    return "\n".join(lines)


def python() -> str:
    """Of each object the place that mkdocstrings fills with its signature and description."""
    lines = ["# Python", "", "The engine, its pipeline and what they take and give work without ROS:", ""]
    lines += ["```python", (ROOT / "docs" / "examples" / "engine.py").read_text().strip(), "```", ""]
    for heading, names in PYTHON.items():
        lines += [f"## {heading}", "", *(f"::: argus_ros.{name}\n" for name in names)]
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
