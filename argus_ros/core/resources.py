"""Finds the package's data files, and the number of CPU cores for the engine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def share(*parts: str) -> Path:
    """A file or folder of the package's share folder: in a ROS workspace, a wheel or a checkout."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    workspaces = [Path(prefix, "share", "argus_ros") for prefix in prefixes if prefix]
    package = Path(__file__).resolve().parents[1]
    roots = (*workspaces, package / "share", package.parent)
    candidates = [root.joinpath(*parts) for root in roots]
    return next((path for path in candidates if path.exists()), candidates[-1])


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer, instead of the file itself. Raises OSError."""
    with path.open("rb") as file:
        return file.read(23) == b"version https://git-lfs"


def why_unreadable(path: Path, error: Exception, remedy: str = "") -> str:
    """The error message for an unreadable file; ``remedy`` applies to a damaged one."""
    with suppress(OSError):
        if is_lfs_pointer(path):
            return f"{path} is a pointer of Git LFS, not the file: run 'git lfs pull'"
    if path.is_symlink() and not path.exists():
        return f"{path} is a broken link, for example after a cache was pruned: download it again"
    return f"{path} cannot be read: {error}" + (f"; {remedy}" if remedy else "")


def engine_threads(asked: int = 0) -> int:
    """CPU threads of an engine: the number asked for; for 0, all cores but one.

    Threads that wait for one another stall when another process, such as the node, takes one of their cores.
    """
    return asked or max(1, len(os.sched_getaffinity(0)) - 1)
