"""`argus completion`: what bash and zsh make of its scripts."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from argus_ros.core import checkpoint
from argus_ros.tools.completion import script
from argus_ros.tools.main import COMMANDS, main

#: Completes the last of its arguments, without any program that PATH could find.
BASH = """
source "$1"; shift; PATH=
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_argus argus "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
PATIENCE = 60.0


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("shtab")
    folder = tmp_path_factory.mktemp("completion")
    (folder / "argus.bash").write_text(script("bash"))
    (folder / "_argus").write_text(script("zsh"))
    return folder


def test_bash_completes_commands_options_choices_checkpoints_and_files(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "drive.mcap").touch()

    def completed(*words: str) -> list[str]:
        command = ["bash", "-c", BASH, "bash", scripts / "argus.bash", "argus", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert set(COMMANDS) <= set(completed(""))
    assert completed("re") == ["replay"]
    assert completed("replay", "--ta") == ["--task"]
    assert completed("replay", "--task", "ca") == ["caption"]
    assert completed("replay", "dr") == ["drive.mcap"]
    assert set(completed("replay", "--checkpoint", "argus")) == set(checkpoint.shipped())


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
def test_zsh_completes_commands_and_choices(scripts: Path) -> None:
    with terminal("zsh", "-f", "-i") as (write, read_until):
        write(f"fpath=({scripts} $fpath); autoload -U compinit; compinit -u -D\n")
        write("argus() { print called with $*; }; print set-'up'\n")
        read_until("set-up")
        write("argus repl\t--task cap\t\n")
        read_until("called with replay --task caption")


@contextmanager
def terminal(*command: str) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """A program on a terminal: what to write to it, and to read from it until a text came."""
    shell, far = pty.openpty()
    process = subprocess.Popen(command, stdin=far, stdout=far, stderr=far, start_new_session=True)
    os.close(far)
    seen = b""

    def write(text: str) -> None:
        os.write(shell, text.encode())

    def read_until(text: str) -> None:
        nonlocal seen
        end = time.monotonic() + PATIENCE
        while text.encode() not in seen:
            assert time.monotonic() < end, seen.decode(errors="replace")
            if select.select([shell], [], [], 1.0)[0]:
                seen += os.read(shell, 4096)

    try:
        yield write, read_until
    finally:
        process.kill()
        process.wait()
        os.close(shell)


def test_without_shtab_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == "argus completion: shtab is needed: pip install shtab\n"
