"""`argus doctor`: what this machine has of all that the node needs, and what to do where it lacks.

Ends with 1 where something is missing without which the node cannot work. What may crash or hang (torch with
its GPU, ROS with its middleware) is looked at in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.text import Text

import argus_ros
from argus_ros.core import checkpoint, fastdds

OK, WARN, FAIL = "ok", "warn", "fail"
COLOURS = {OK: "green", WARN: "yellow", FAIL: "bold red"}
#: Seconds that torch and ROS may take to be looked at.
PATIENCE = 120.0
#: What the node and its engine cannot do without, with the least version; pyproject.toml has all of them.
LIBRARIES = {
    "torch": "2.5",
    "transformers": "5.0",
    "safetensors": "",
    "tokenizers": "0.20",
    "msgspec": "0.19",
    "numpy": "1.26",
}
#: Used where they are installed, and for what.
OPTIONAL = {
    "norfair": "parameter tracking",
    "opentelemetry": "parameter traces_endpoint",
    "prometheus_client": "parameter metrics_port",
    "shtab": "argus completion",
    "starlette": "argus watch",
    "tf2_py": "parameters target_frame and ground_frame",
    "vision_msgs": "topics ~/detections_2d and ~/detections_3d/vision",
    "av": "annotated videos",
}
#: Device files of NVIDIA's: of a PC, of a Jetson, under WSL.
DEVICES = ("dev/nvidia[0-9]*", "dev/nvhost-gpu", "usr/lib/wsl/lib/nvidia-smi")
TORCH = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__,
    "build": torch.version.cuda or torch.version.hip or "",
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
}))
"""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what was found and what to do about it."""

    name: str
    level: str  #: ``ok``, ``warn`` or ``fail``
    found: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the findings; - is the standard output")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="how long to look for ROS nodes and topics"
    )


def run(options: argparse.Namespace) -> int:
    findings = []
    console = Console(stderr=options.json == "-")
    for check in CHECKS:
        for finding in check(options):
            findings.append(finding)
            show(console, finding)
    if options.json:
        text = json.dumps([asdict(finding) for finding in findings], indent=1)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n")
    return 1 if any(finding.level == FAIL for finding in findings) else 0


def show(console: Console, finding: Finding) -> None:
    line = Text()
    line.append(f"{finding.level:5}", COLOURS[finding.level])
    line.append(f"{finding.name:13} {finding.found}")
    if finding.remedy:
        line.append(f"; {finding.remedy}", "bold")
    console.print(line, soft_wrap=True)


# --- what is looked at --------------------------------------------------------------------------


def versions(options: argparse.Namespace) -> Iterator[Finding]:
    where = Path(argus_ros.__file__).parent
    yield Finding("argus_ros", OK, f"{argus_ros.__version__} in {where}, Python {platform.python_version()}")


def libraries(options: argparse.Namespace) -> Iterator[Finding]:
    found = {"opencv": cv2.__version__}
    for name, least in LIBRARIES.items():
        if find_spec(name) is None:
            yield Finding(name, FAIL, "not installed", f"pip install '{name}{'>=' if least else ''}{least}'")
            continue
        found[name] = metadata.version(name)
        if numbers(found[name]) < numbers(least):
            yield Finding(name, FAIL, f"{found[name]} is too old", f"pip install '{name}>={least}'")
    yield Finding("libraries", OK, ", ".join(f"{name} {version}" for name, version in found.items()))
    has = {name: find_spec(name) is not None for name in OPTIONAL}
    there = ", ".join(name for name in OPTIONAL if has[name]) or "none"
    lacking = ", ".join(f"{name} ({what})" for name, what in OPTIONAL.items() if not has[name])
    yield Finding("optional", OK, f"installed: {there}" + (f"; not installed: {lacking}" if lacking else ""))


def numbers(version: str) -> tuple[int, ...]:
    """``(2, 5)`` of ``2.5.1+cu126``; ``()`` of nothing."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def torch_and_gpu(options: argparse.Namespace) -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    said, trouble = ask(["-c", TORCH])
    if said is None:
        yield Finding("torch", FAIL, f"cannot be imported: {trouble}", "install it anew: docs/setup.md")
        return
    device = next((str(path) for pattern in DEVICES for path in sorted(Path("/").glob(pattern))), "")
    cores = len(os.sched_getaffinity(0))
    if said["devices"]:
        yield Finding("GPU", OK, f"{', '.join(said['devices'])}, torch {said['version']}")
    elif not device:
        yield Finding("GPU", OK, f"none is seen; the model runs on the processor ({cores} cores)")
    elif said["build"]:
        remedy = "look at nvidia-smi; a container needs --gpus all"
        yield Finding("GPU", FAIL, f"there is {device}, and torch {said['version']} cannot use it", remedy)
    else:
        remedy = "make setup TORCH=cuda, or pip install a torch with CUDA"
        yield Finding("GPU", WARN, f"there is {device}, and torch {said['version']} is without CUDA", remedy)


def checkpoints(options: argparse.Namespace) -> Iterator[Finding]:
    whole = []
    for name in checkpoint.shipped():
        try:
            read = checkpoint.read(checkpoint.find(name))
            check_weights(read.path / "model.safetensors")
        except (checkpoint.CheckpointError, OSError, ValueError) as error:
            yield Finding("checkpoints", FAIL, f"{name}: {error}", "install the package anew")
        else:
            whole.append(name)
    yield Finding(
        "checkpoints", OK if whole else FAIL, ", ".join(whole) or "none of the shipped ones is there"
    )


def check_weights(file: Path) -> None:
    """Raise ValueError unless the file is whole: its header says where its last tensor ends."""
    size = file.stat().st_size
    with file.open("rb") as weights:
        length = int.from_bytes(weights.read(8), "little")
        if not 0 < length < size:
            raise ValueError(f"{file} is no safetensors file ({size} bytes; a pointer of Git LFS?)")
        header = json.loads(weights.read(length))
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    if size != 8 + length + end:
        raise ValueError(f"{file} has {size} bytes in place of {8 + length + end}")


def ros(options: argparse.Namespace) -> Iterator[Finding]:
    if find_spec("rclpy") is None:
        remedy = "make setup, or source /opt/ros/DISTRO/setup.bash; not needed for argus live, replay, bench"
        yield Finding("ROS 2", WARN, "no rclpy in this Python", remedy)
        return
    if find_spec("argus_ros.msg") is None:
        remedy = "make setup, or colcon build and source install/setup.bash"
        yield Finding("ROS 2", FAIL, "the messages of argus_ros are not built, or not sourced", remedy)
        return
    yield from memory()
    said, trouble = ask(["-m", "argus_ros.ros.graph", str(options.seconds)])
    if said is None:
        yield Finding(
            "ROS 2", FAIL, f"rclpy does not start: {trouble}", "source one ROS 2, and its workspace"
        )
        return
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    distribution = os.environ.get("ROS_DISTRO") or "from wheels"
    nodes = len(said["nodes"])
    found = f"{distribution}, {said['rmw']}, domain {domain}, {nodes} other node{'s' * (nodes != 1)} seen"
    yield Finding("ROS 2", OK, found)
    yield from profile(said["rmw"])
    yield from topics(said["images"], domain)


def profile(rmw: str) -> Iterator[Finding]:
    """Whether Fast DDS is told to let large images through."""
    if "fastrtps" not in rmw:
        yield Finding("DDS profile", OK, f"{rmw} has settings of its own for large images")
        return
    named = {name: os.environ[name] for name in fastdds.PROFILE_VARIABLES if os.environ.get(name)}
    if missing := [file for file in named.values() if not Path(file).is_file()]:
        yield Finding("DDS profile", FAIL, f"there is no {missing[0]}", f"mend or unset {next(iter(named))}")
        return
    wanted = fastdds.with_large_images()
    lacking = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    if lacking:
        remedy = "; ".join(f"export {n}={v}" for n, v in lacking.items()) + " (the camera driver as well)"
        yield Finding("DDS profile", WARN, "Fast DDS's default, which loses large images", remedy)
    else:
        chosen = ", ".join(named.values()) or "other transports are chosen"
        yield Finding("DDS profile", OK, chosen)


def memory() -> Iterator[Finding]:
    """Shared memory: what is free, and what killed processes left."""
    found = os.statvfs(fastdds.SHARED_MEMORY) if fastdds.SHARED_MEMORY.is_dir() else None
    free = found.f_bavail * found.f_frsize >> 20 if found else 0
    short, _, remedy = fastdds.short_of_memory(fastdds.with_large_images()).partition(". ")
    if short:
        yield Finding("/dev/shm", FAIL, short, remedy)
    else:
        yield Finding("/dev/shm", OK, f"{free} MB free")
    rest, _, remedy = fastdds.left_behind().partition("; ")
    if rest:
        yield Finding("/dev/shm", WARN, rest, remedy)


def topics(images: list[dict[str, Any]], domain: str) -> Iterator[Finding]:
    """Image topics and whether the node can subscribe to them."""
    if not images:
        remedy = "start the camera driver; ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE have to be its own"
        yield Finding("cameras", WARN, f"no image topic is seen in domain {domain}", remedy)
    for image in images:
        publishers = image["publishers"]
        offered = " and ".join(sorted({p["reliability"] for p in publishers}))
        found = (
            f"{image['topic']} ({image['type']}), {offered}, by {', '.join(p['node'] for p in publishers)}"
        )
        if len(publishers) > 1:
            yield Finding("cameras", WARN, f"{found}: nothing tells their images apart", "end all but one")
        elif offered == "best_effort":
            fits = "fits camera.NAME.reliability best_effort, the default, and not reliable"
            yield Finding("cameras", OK, f"{found}: {fits}")
        else:
            yield Finding("cameras", OK, f"{found}: fits every camera.NAME.reliability")


CHECKS: tuple[Callable[[argparse.Namespace], Iterator[Finding]], ...] = (
    versions,
    libraries,
    torch_and_gpu,
    checkpoints,
    ros,
)


def ask(arguments: list[str]) -> tuple[dict[str, Any] | None, str]:
    """What a Python process says in JSON on its last line; else None, and what is wrong."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, errors="replace", timeout=PATIENCE
        )
        return json.loads(done.stdout.splitlines()[-1]), ""
    except subprocess.TimeoutExpired:
        return None, f"nothing came for {PATIENCE:.0f} s"
    except (IndexError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        return None, last[0]
