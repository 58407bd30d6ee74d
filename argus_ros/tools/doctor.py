"""`argus doctor`: checks whether this machine has what the node needs, with remedies.

Exits with 1 where a required part is missing. Parts that may crash or hang (torch with its GPU, ROS with its
middleware) are checked in separate processes.
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
#: Timeout of the checks of torch and ROS, seconds.
PATIENCE = 120.0
#: Required packages of the node and its engine, with minimum versions; pyproject.toml has all of them.
LIBRARIES = {
    "torch": "2.5",
    "transformers": "5.0",
    "safetensors": "",
    "tokenizers": "0.20",
    "msgspec": "0.19",
    "numpy": "1.26",
}
#: Modules of optional packages, with their use.
OPTIONAL = {
    "norfair": "parameter tracking",
    "opentelemetry.exporter.otlp.proto.http": "parameter traces_endpoint",
    "prometheus_client": "parameter metrics_port",
    "shtab": "argus completion",
    "starlette": "argus watch",
    "tf2_py": "parameters target_frame and ground_frame",
    "vision_msgs": "topics ~/detections_2d and ~/detections_3d/vision",
    "av": "annotated videos",
}
#: NVIDIA's device files: on a PC, on a Jetson, under WSL.
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
    """One line of the report: the part, its state, what was found and what to do."""

    name: str
    level: str  #: ``ok``, ``warn`` or ``fail``
    found: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the findings; - means standard output")
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
    has = {name: installed(name) for name in OPTIONAL}
    there = ", ".join(package(name) for name in OPTIONAL if has[name]) or "none"
    lacking = ", ".join(f"{package(name)} ({what})" for name, what in OPTIONAL.items() if not has[name])
    yield Finding("optional", OK, f"installed: {there}" + (f"; not installed: {lacking}" if lacking else ""))


def package(module: str) -> str:
    return module.partition(".")[0]


def installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it is part of
        return False


def numbers(version: str) -> tuple[int, ...]:
    """The version's numbers: ``(2, 5)`` for ``2.5.1+cu126``; ``()`` for an empty text."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def torch_and_gpu(options: argparse.Namespace) -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    said, trouble = ask(["-c", TORCH])
    if said is None:
        yield Finding("torch", FAIL, f"cannot be imported: {trouble}", "install it again: docs/setup.md")
        return
    device = next((str(path) for pattern in DEVICES for path in sorted(Path("/").glob(pattern))), "")
    cores = len(os.sched_getaffinity(0))
    if said["devices"]:
        yield Finding("GPU", OK, f"{', '.join(said['devices'])}, torch {said['version']}")
    elif not device:
        yield Finding("GPU", OK, f"none found; the model runs on the CPU ({cores} cores)")
    elif said["build"]:
        remedy = "check nvidia-smi; a container needs --gpus all"
        yield Finding("GPU", FAIL, f"there is {device}, and torch {said['version']} cannot use it", remedy)
    else:
        remedy = "make setup TORCH=cuda, or pip install a torch with CUDA"
        yield Finding("GPU", WARN, f"there is {device}, and torch {said['version']} is without CUDA", remedy)


def compiler(options: argparse.Namespace) -> Iterator[Finding]:
    """Of what the engine compiles for models on the CPU."""
    from argus_ros.vlm.models import compiler as compilers

    try:
        yield Finding("compiler", OK, " ".join(compilers.find()))
    except compilers.CompileError as error:
        found = f"{str(error).partition(' (')[0]}: a model on the CPU decodes two to three times slower"
        yield Finding("compiler", WARN, found, "apt install gcc")


def checkpoints(options: argparse.Namespace) -> Iterator[Finding]:
    whole = []
    for name in checkpoint.shipped():
        try:
            read = checkpoint.read(checkpoint.find(name))
            check_weights(read.path / "model.safetensors")
        except (checkpoint.CheckpointError, OSError, ValueError) as error:
            yield Finding("checkpoints", FAIL, f"{name}: {error}", "install the package again")
        else:
            whole.append(name)
    yield Finding("checkpoints", OK if whole else FAIL, ", ".join(whole) or "no shipped checkpoint found")


def check_weights(file: Path) -> None:
    """Raise ValueError unless the file is complete: its header gives the end of its last tensor."""
    size = file.stat().st_size
    with file.open("rb") as weights:
        length = int.from_bytes(weights.read(8), "little")
        if not 0 < length < size:
            raise ValueError(f"{file} is not a safetensors file ({size} bytes; a pointer of Git LFS?)")
        header = json.loads(weights.read(length))
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    if size != 8 + length + end:
        raise ValueError(f"{file} has {size} bytes instead of {8 + length + end}")


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
    """Whether Fast DDS has a profile for large images."""
    if "fastrtps" not in rmw:
        yield Finding("DDS profile", OK, f"{rmw} has settings of its own for large images")
        return
    named = {name: os.environ[name] for name in fastdds.PROFILE_VARIABLES if os.environ.get(name)}
    if missing := [file for file in named.values() if not Path(file).is_file()]:
        yield Finding("DDS profile", FAIL, f"there is no {missing[0]}", f"fix or unset {next(iter(named))}")
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
    """Free shared memory, and shared memory of killed processes."""
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
        remedy = "start the camera driver; ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE have to match"
        yield Finding("cameras", WARN, f"no image topic found in domain {domain}", remedy)
    for image in images:
        publishers = image["publishers"]
        offered = " and ".join(sorted({p["reliability"] for p in publishers}))
        found = (
            f"{image['topic']} ({image['type']}), {offered}, by {', '.join(p['node'] for p in publishers)}"
        )
        if len(publishers) > 1:
            yield Finding("cameras", WARN, f"{found}: their images cannot be told apart", "stop all but one")
        elif offered == "best_effort":
            fits = "fits camera.NAME.reliability best_effort, the default, and not reliable"
            yield Finding("cameras", OK, f"{found}: {fits}")
        else:
            yield Finding("cameras", OK, f"{found}: fits every camera.NAME.reliability")


CHECKS: tuple[Callable[[argparse.Namespace], Iterator[Finding]], ...] = (
    versions,
    libraries,
    torch_and_gpu,
    compiler,
    checkpoints,
    ros,
)


def ask(arguments: list[str]) -> tuple[dict[str, Any] | None, str]:
    """The JSON on the last output line of a Python process; else None and an error message."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, errors="replace", timeout=PATIENCE
        )
        return json.loads(done.stdout.splitlines()[-1]), ""
    except subprocess.TimeoutExpired:
        return None, f"no output for {PATIENCE:.0f} s"
    except (IndexError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with exit status {done.returncode}"]
        return None, last[0]
