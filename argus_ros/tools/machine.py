"""The origin of a figure: the machine, the versions and the commit, for every ``--json``."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import argus_ros

LIBRARIES = ("torch", "triton", "transformers", "numpy", "opencv-python", "opencv-python-headless")


def describe() -> dict[str, Any]:
    """``machine``, ``versions``, ``commit`` and ``date`` of a measurement."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "gpu": (gpu := _gpu()),
            **({"driver": _driver()} if gpu else {}),
        },
        "versions": {"argus_ros": argus_ros.__version__, "python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _gpu() -> str:
    """Name of the GPU, if torch is imported; other commands use none."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else ""


def _driver() -> str:
    """Version of NVIDIA's driver; "" where it is unknown."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout.splitlines()[0].strip() if said.returncode == 0 and said.stdout else ""


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The checkout's commit, with ``+`` for uncommitted changes; "" outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        name = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return name.stdout.strip()
