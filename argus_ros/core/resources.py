"""What the package finds where it runs: its files outside its Python modules, and cores."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def share(*parts: str) -> Path:
    """A file or folder of the package's share folder: a ROS workspace's, a wheel's, else the checkout's."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    workspaces = [Path(prefix, "share", "argus_ros") for prefix in prefixes if prefix]
    package = Path(__file__).resolve().parents[1]
    roots = (*workspaces, package / "share", package.parent)
    candidates = [root.joinpath(*parts) for root in roots]
    return next((path for path in candidates if path.exists()), candidates[-1])


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves in place of one that was not fetched. Raises OSError."""
    with path.open("rb") as file:
        return file.read(23) == b"version https://git-lfs"


def why_unreadable(path: Path, error: Exception, remedy: str = "") -> str:
    """What to say of a file that cannot be read; ``remedy`` is for one that is damaged."""
    with suppress(OSError):
        if is_lfs_pointer(path):
            return f"{path} is a pointer of Git LFS, not the file: 'git lfs pull' fetches that"
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to what is no longer there, as in a cache that was pruned: fetch it again"
    return f"{path} cannot be read: {error}" + (f"; {remedy}" if remedy else "")


def engine_threads(asked: int = 0) -> int:
    """CPU threads of an engine: as many as were asked for; for 0, all cores but one.

    Threads that wait for one another stall when the ROS side, or anything else, takes a core from them.
    """
    return asked or max(1, len(os.sched_getaffinity(0)) - 1)
