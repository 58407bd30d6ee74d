"""What the package finds where it runs: its files outside its Python modules, and cores."""

from __future__ import annotations

import os
from pathlib import Path


def share(*parts: str) -> Path:
    """A file or folder of the package's share folder: a ROS workspace's, a wheel's, else the checkout's."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    workspaces = [Path(prefix, "share", "argus_ros") for prefix in prefixes if prefix]
    package = Path(__file__).resolve().parents[1]
    roots = (*workspaces, package / "share", package.parent)
    candidates = [root.joinpath(*parts) for root in roots]
    return next((path for path in candidates if path.exists()), candidates[-1])


def engine_threads(asked: int = 0) -> int:
    """CPU threads of an engine: as many as were asked for; for 0, all cores but one.

    Threads that wait for one another stall when the ROS side, or anything else, takes a core from them.
    """
    return asked or max(1, len(os.sched_getaffinity(0)) - 1)
