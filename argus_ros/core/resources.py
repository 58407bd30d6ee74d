"""Files that come with the package outside its Python modules: configuration, messages."""

from __future__ import annotations

import os
from pathlib import Path


def share(*parts: str) -> Path:
    """A file or folder of the package's share folder: of the installed package, else of the checkout."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    roots = [Path(prefix, "share", "argus_ros") for prefix in prefixes if prefix]
    candidates = [root.joinpath(*parts) for root in (*roots, Path(__file__).resolve().parents[2])]
    return next((path for path in candidates if path.exists()), candidates[-1])
