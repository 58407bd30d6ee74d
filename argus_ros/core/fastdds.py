"""The Fast DDS profiles that let camera images through, and whether this machine has the memory for them."""

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
#: Whoever sets one of these has chosen transports already.
_CHOSEN = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")
#: The profiles of this package, the one for large images first.
PROFILES = ("fastdds_large_images.xml", "fastdds_small_memory.xml")
SHARED_MEMORY = Path("/dev/shm")
#: Processes that share the memory where nobody says how many: a driver, the node and a listener.
PROCESSES = 3


def with_large_images(
    environment: Mapping[str, str] | None = None, processes: int = PROCESSES
) -> dict[str, str]:
    """A copy of ``environment`` (default: this process's) that names a profile, unless it names another.

    It is the largest whose shared memory there is for so many processes: each takes a segment, whole and
    at once. Fast DDS reads the profile when a process creates its first participant, and the segment is the
    sender's: give this to whoever publishes images as well as to whoever receives them.
    """
    result = dict(os.environ if environment is None else environment)
    if not any(result.get(name) for name in _CHOSEN):
        files = [share("config", name) for name in PROFILES]
        fitting = [file for file in files if processes * _segment(file) <= free_memory()]
        profile = str((fitting or files[-1:])[0])
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


def left_behind(folder: Path = SHARED_MEMORY) -> str:
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


def other_users(domain: int, folder: Path = SHARED_MEMORY) -> tuple[str, ...]:
    """Users beside this process's own whose ports of a ROS domain lie in Fast DDS's shared memory, by name.

    A port and a segment can be opened by the user alone who made them, so that processes of two users
    discover one another and hear nothing. Ports of a process that was killed stay, and count.
    """
    owners = set()
    with suppress(OSError):  # no such folder, or no descriptor left to look into it
        for path in folder.iterdir():
            port = re.fullmatch(r"fast(?:rtps|dds)_port(\d+)", path.name)
            if port and (int(port[1]) - 7400) // 250 == domain:  # as RTPS counts them
                with suppress(OSError):  # it has just gone
                    owners.add(path.stat().st_uid)
    return tuple(map(user_name, sorted(owners - {os.geteuid()})))


def user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # of a container's host, for one
        return f"uid {number}"


def short_of_memory(environment: Mapping[str, str] | None = None) -> str:
    """What to do where the profile's segment does not fit into /dev/shm; empty where it does.

    To be asked before this process creates its participant, which takes the segment.
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
    """Bytes of shared memory that a profile takes; 0 where it takes none or cannot be read."""
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
