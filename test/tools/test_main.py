"""The program `argus`: its commands are there, and complaints are one line."""

import importlib
import os
import platform
import subprocess
import sys

import pytest

from argus_ros.tools.main import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_module_with_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"argus_ros.tools.{command}")
    assert callable(module.run)
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert COMMANDS[command].split()[0] in capsys.readouterr().out


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_a_mistake_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--checkpoint", "no-such-model"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no-such-model" in error
    assert "argus-nano" in error or "folder" in error


@pytest.mark.parametrize(
    ("place", "reason"),
    [("/dev/full", "No space left on device; make room"), ("/proc/figures.json", "/proc/figures.json")],
)
def test_what_the_system_refuses_is_named_in_one_line(
    place: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--cameras", "1", "--seconds", "1", "--json", place]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert reason in error


@pytest.mark.parametrize("module", ["argus_ros.tools.main", "argus_ros.vlm.worker"])
def test_threads_do_not_spin(module: str) -> None:
    """Neither numpy's beside torch's, nor torch's: a frame would take several times as long."""
    code = f"""
import os, sys
for name in ("OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"):
    os.environ.pop(name, None)
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_NUM_THREADS"), os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Watch())
import {module}, numpy
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1", "passive"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another libc")
@pytest.mark.parametrize("module", ["argus_ros.tools.main", "argus_ros.vlm.worker"])
@pytest.mark.parametrize(
    "own", [{}, {"MALLOC_MMAP_THRESHOLD_": "65536"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"}]
)
def test_a_frames_arrays_are_not_mapped_anew(module: str, own: dict[str, str]) -> None:
    """A page fault for every 4 KB of every array is a tenth of a small model's time; settings stay."""
    code = f"""
import resource, {module}
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(9):
    before, arrays = faults(), [b"x" * (3 << 20) for _ in range(4)]
    arrays.clear()
print(faults() - before)
"""
    words = [sys.executable, "-c", code]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | own).stdout
    assert int(said) > 200 if own else int(said) < 100
