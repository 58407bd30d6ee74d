"""Set-up: what it refuses and how it ends, run on copies of its script; nothing is installed or built."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Has the script's own functions, and ``busy``: a set-up that is in the middle of a long command.
BUSY = """
import sys
sys.path.insert(0, "scripts")
from pathlib import Path
import bootstrap
watch = bootstrap.watch
def told(process):  # what is interrupted before this has not begun
    Path("started").write_text(str(process.pid))
    watch(process)
def set_up():
    bootstrap.lock()
    bootstrap.run(["sleep", "100"], "it failed")
bootstrap.watch, bootstrap.set_up = told, set_up
sys.exit(bootstrap.main())
"""


def copy(folder: Path) -> Path:
    """A checkout with nothing but set-up in it."""
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    (folder / "scripts").mkdir()
    for name in ("Makefile", "scripts/bootstrap.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def set_up(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Without tools on the path, so that it goes no further than to say that they are missing."""
    command = [sys.executable, str(folder / "scripts" / "bootstrap.py")]
    given = {"PATH": "", "HOME": str(folder), **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60)


@contextmanager
def busy(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A set-up in the middle of a command, and the command's process."""
    os.mkfifo(folder / "started")
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    command = int((folder / "started").read_text())  # waits until it is written
    try:
        yield process, command
    finally:
        process.kill()
        process.wait()
        with suppress(ProcessLookupError):
            os.kill(command, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return "(sleep) Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def is_locked(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_an_unknown_ros_is_refused_in_one_line(tmp_path: Path) -> None:
    done = set_up(copy(tmp_path / "checkout"), ROS="boxturtle")
    assert done.returncode == 1
    assert re.fullmatch(r"setup: ROS=boxturtle is not one of jazzy, kilted; .*\n", done.stderr)


def test_all_missing_tools_are_named_at_once(tmp_path: Path) -> None:
    done = set_up(copy(tmp_path / "checkout"))
    assert done.returncode == 1
    assert re.fullmatch(r"setup: missing: (g\+\+ cmake make.*); .*sudo apt install \1\n", done.stderr)


@pytest.mark.parametrize("name", ["a checkout", "prüfung", "a;b"])
def test_a_checkout_anywhere_is_built_by_way_of_a_plain_path(tmp_path: Path, name: str) -> None:
    checkout = copy(tmp_path / name)
    for _ in range(2):  # the second time all is there
        done = set_up(checkout, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert done.stderr.startswith("setup: missing: g++"), done.stderr
        workspace = (checkout / ".ros_ws").readlink()
        assert re.fullmatch(r"[\w/.-]+", str(workspace), re.ASCII)
        assert (workspace / "checkout").readlink() == checkout


def test_without_a_plain_path_anywhere_it_is_refused(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "a checkout")
    done = set_up(checkout, XDG_CACHE_HOME=str(tmp_path / "a cache"))
    assert done.returncode == 1
    assert re.fullmatch(r"setup: neither this checkout .* set XDG_CACHE_HOME\n", done.stderr)


def test_the_home_of_another_python_is_let_be(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHOME": "/nowhere", "ROS": "boxturtle"}
    command = ["make", "setup", f"PYTHON={sys.executable}"]
    done = subprocess.run(
        command, cwd=copy(tmp_path / "checkout"), env=environment, capture_output=True, text=True
    )
    assert "is not one of jazzy, kilted" in done.stderr


@pytest.mark.parametrize(
    ("given", "stamp", "arguments", "build"),
    [
        ("cpu", "2.13.0", ["torch==2.13.0"], "CPU"),
        ("cuda", "2.13.0 CUDA", ["torch==2.13.0"], "CUDA"),
        ("torch --index-url x", "torch --index-url x", ["torch", "--index-url", "x"], ""),
    ],
)
def test_torch_by_word_or_by_arguments(given: str, stamp: str, arguments: list[str], build: str) -> None:
    code = "import sys, bootstrap; print(list(bootstrap.choose_torch(sys.argv[1])[:3]))"
    done = subprocess.check_output([sys.executable, "-c", code, given], cwd=ROOT / "scripts", text=True)
    assert done.strip() == str([stamp, arguments, build])


@pytest.mark.slow
def test_ctrl_c_ends_it_and_its_command(tmp_path: Path) -> None:
    with busy(copy(tmp_path / "checkout")) as (process, command):
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert errors == "setup: interrupted; run the same command again to continue\n"
        assert not alive(command)
    assert not is_locked(tmp_path / "checkout")


def test_what_a_killed_one_left_running_is_waited_for(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "checkout")
    with busy(checkout) as (process, command):
        process.kill()
        process.wait()
        assert alive(command)
        assert is_locked(checkout)
        other = subprocess.Popen(
            [sys.executable, str(checkout / "scripts" / "bootstrap.py")],
            env={"PATH": "", "HOME": str(checkout)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        assert other.stdout.readline().startswith("setup: waiting for another set-up")
        os.kill(command, signal.SIGKILL)
        _, errors = other.communicate(timeout=30)
        assert errors.startswith("setup: missing: g++")
