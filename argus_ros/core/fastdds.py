"""The Fast DDS profile that lets camera images through (``config/fastdds_large_images.xml``)."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from argus_ros.core.resources import share

#: The variable that Fast DDS 3 (Kilted and later) reads, and that of Fast DDS 2 (Humble, Jazzy).
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
#: The folder of ``share/`` that each of these versions installs.
_FOLDERS = ("fastdds", "fastrtps")
#: Whoever sets one of these has chosen transports already.
_CHOSEN = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")


def with_large_images(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """A copy of ``environment`` (default: this process's) that names the profile, unless it names another.

    Fast DDS reads it when a process creates its first participant, and the shared memory is the
    sender's: give this to whoever publishes images as well as to whoever receives them.
    """
    result = dict(os.environ if environment is None else environment)
    if not any(result.get(name) for name in _CHOSEN):
        profile = str(share("config", "fastdds_large_images.xml"))
        result |= dict.fromkeys(_read_here(result), profile)
    return result


def _read_here(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Variables of the installed Fast DDS, which complains about the other one; both where none is found."""
    shares = [Path(prefix, "share") for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    variables = tuple(
        variable
        for variable, folder in zip(PROFILE_VARIABLES, _FOLDERS, strict=True)
        if any((share / folder).is_dir() for share in shares)
    )
    return variables or PROFILE_VARIABLES


def left_behind(folder: Path = Path("/dev/shm")) -> str:
    """What processes that were killed left of Fast DDS's shared memory, and how to free it; "" if nothing.

    Each segment has a file beside it (``_el``) that its owner holds locked; a lock that is free has no owner.
    """
    count = size = 0
    try:
        locks = [path for path in folder.iterdir() if path.name.endswith("_el")]
    except OSError:  # no such folder, or no descriptor left to look into it
        return ""
    for lock in locks:
        segment = lock.with_name(lock.name.removesuffix("_el"))
        prefix, _, name = segment.name.partition("_")
        if prefix not in ("fastrtps", "fastdds") or name.startswith(
            "port"
        ):  # Fast DDS 2, and 3; ports are small
            continue
        with suppress(OSError):  # locked, another user's, or it has just gone
            if time.time() - lock.stat().st_mtime < 5.0:
                continue  # its owner may be about to lock it
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            size += segment.stat().st_size
            count += 1
    if not count:
        return ""
    segments = "a segment" if count == 1 else f"{count} segments"
    return (
        f"Fast DDS's shared memory holds {segments} ({size / 1e6:.0f} MB) of processes that were killed; "
        "`fastdds shm clean` frees what nobody uses"
    )
