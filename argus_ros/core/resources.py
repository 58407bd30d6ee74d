"""Files that come with the package outside its Python modules: configuration, messages."""

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
