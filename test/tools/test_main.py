"""The program `argus`: its commands are there, and complaints are one line."""

import importlib
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
def test_numpy_multiplies_in_one_thread(module: str) -> None:
    """Else its threads spin beside torch's, and a frame takes three times as long."""
    code = f"""
import os, sys
os.environ.pop("OPENBLAS_NUM_THREADS", None)
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_NUM_THREADS"))
sys.meta_path.insert(0, Watch())
import {module}, numpy
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1"]
