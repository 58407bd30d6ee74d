"""Fast DDS profiles with shared memory for camera images, and checks of this machine's shared memory."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from argus_ros.core.resources import share

#: The variable that Fast DDS 3 (Kilted and later) reads, and that of Fast DDS 2 (Humble, Jazzy).
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
#: The folder of ``share/`` that each of these versions installs.
_FOLDERS = ("fastdds", "fastrtps")
#: Variables that select transports. Where one is set, the user has chosen already.
_CHOSEN = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")
#: The profiles of this package, the one for large images first.
PROFILES = ("fastdds_large_images.xml", "fastdds_small_memory.xml")
SHARED_MEMORY = Path("/dev/shm")
#: Default number of processes that share the memory: a driver, the node and a listener.
PROCESSES = 3


def with_large_images(
    environment: Mapping[str, str] | None = None, processes: int = PROCESSES
) -> dict[str, str]:
    """A copy of ``environment`` (default: this process's) that names a profile, unless it names one already.

    It is the largest profile that fits the shared memory for ``processes`` processes: each allocates a whole
    segment at once. Fast DDS reads the profile when a process creates its first participant, and senders own
    the segments: set this environment for publishers of images as well as for subscribers.
    """
    result = dict(os.environ if environment is None else environment)
    if not any(result.get(name) for name in _CHOSEN):
        files = [share("config", name) for name in PROFILES]
        fitting = [file for file in files if processes * _segment(file) <= free_memory()]
        profile = str((fitting or files[-1:])[0])
        result |= dict.fromkeys(_read_here(result), profile)
    return result


def _read_here(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that the installed Fast DDS reads (it warns about others); both where none is found."""
    shares = [Path(prefix, "share") for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    variables = tuple(
        variable
        for variable, folder in zip(PROFILE_VARIABLES, _FOLDERS, strict=True)
        if any((share / folder).is_dir() for share in shares)
    )
    return variables or PROFILE_VARIABLES


def left_behind(folder: Path = SHARED_MEMORY) -> str:
    """A message about shared memory that killed Fast DDS processes left, and how to free it; "" if none.

    Each segment has a lock file (``_el``) that its owner holds locked. A lock that is free has no owner.
    """
    count = size = 0
    try:
        locks = [path for path in folder.iterdir() if path.name.endswith("_el")]
    except OSError:  # no such folder, or no free file descriptor
        return ""
    for lock in locks:
        segment = lock.with_name(lock.name.removesuffix("_el"))
        prefix, _, name = segment.name.partition("_")
        if prefix not in ("fastrtps", "fastdds") or name.startswith(
            "port"
        ):  # Fast DDS 2, and 3; ports are small
            continue
        with suppress(OSError):  # locked, another user's, or just removed
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
        f"Fast DDS's shared memory holds {segments} ({size / 1e6:.0f} MB) of killed processes; "
        "`fastdds shm clean` frees it"
    )


def other_users(domain: int, folder: Path = SHARED_MEMORY) -> tuple[str, ...]:
    """Names of other users with Fast DDS ports of a ROS domain in the shared memory.

    Only the user who created a port or a segment can open it: processes of two users discover one another and
    receive nothing. Ports of a process that was killed stay, and count.
    """
    owners = set()
    with suppress(OSError):  # no such folder, or no free file descriptor
        for path in folder.iterdir():
            port = re.fullmatch(r"fast(?:rtps|dds)_port(\d+)", path.name)
            if port and (int(port[1]) - 7400) // 250 == domain:  # RTPS numbers them so
                with suppress(OSError):  # just removed
                    owners.add(path.stat().st_uid)
    return tuple(map(user_name, sorted(owners - {os.geteuid()})))


def user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # for example a user of a container's host
        return f"uid {number}"


def short_of_memory(environment: Mapping[str, str] | None = None) -> str:
    """An error message where the profile's segment does not fit into /dev/shm; "" where it does.

    Call this before the process creates its participant, which allocates the segment.
    """
    given = os.environ if environment is None else environment
    if "fastrtps" not in given.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"):
        return ""
    named = next((given[name] for name in PROFILE_VARIABLES if given.get(name)), "")
    wanted, free = _segment(Path(named)) if named else 0, free_memory()
    if wanted <= free:
        return ""
    return (
        f"{SHARED_MEMORY} has {free >> 20} MB free and {named} takes {wanted >> 20} MB of it for each "
        "process: Fast DDS will send images over UDP, and large ones are lost. Start the container with "
        "--shm-size=512m or --ipc=host, or free the memory (ls /dev/shm)"
    )


def _segment(profile: Path) -> int:
    """Bytes of shared memory of a profile; 0 where it has none or cannot be read."""
    try:
        sizes = re.findall(r"<segment_size>\s*(\d+)\s*</segment_size>", profile.read_text())
    except (OSError, UnicodeDecodeError):
        return 0
    return sum(map(int, sizes))


def free_memory() -> int:
    """Bytes free in /dev/shm."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
