"""The commands of README.md and docs/, word for word as they stand there.

Run in a copy of the checkout in a folder with a space. `make test` runs the quick ones, `make docs-commands`
the long ones as well; what cannot run here says why. A command of a new kind needs a line in RULES.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from argus_ros.tools import camera_bag
from argus_ros.training.scenes.film import Walk

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
#: First words of what is a command in a block that names no language.
PROGRAMS = re.compile(
    r"(apt|apt-get|argus|bash|cd|colcon|docker|export|git|make|mkdir|pip|pre-commit|python3?|ros2|rosdep"
    r"|source|sudo|\.venv/bin/\S+)$"
)
QUICK = "quick"  #: to its end, in `make test`
LONG = "long"  #: to its end, in `make docs-commands`
STARTS = "starts"  #: in `make docs-commands`, until it has written figures; then Ctrl-C
#: The first that is found in a command says how it is run, or why it is not run here.
RULES = {
    r"--data |\bdriving/|\byard/|\bframes/|\.onnx\b": "needs pictures or a detector that are not shipped",
    r"\bvllm\b|llama-server|--server ": "needs a server of the reader's own",
    r"^argus convert |--download ": "needs a checkpoint from a hub",
    r"^argus lit ": "needs mujoco, which set-up does not install",
    r"--lit |bench/whole_boxes\.py|--checkpoint out/": "needs what hours of the command before it make",
    r"^argus replay .*/week": "needs several bags of the reader's own; test_bags.py has some",
    r"^argus simulate .*--cost": LONG,
    r"^argus (simulate|replay) ": QUICK,
    r"^argus train ": STARTS,
    r"\bFOLDER\b|\bORG/NAME\b|\bVIDEO\b": "names a folder, a model or a film of the reader's own",
    r"docs/examples/relay_yolo\.py": "needs yolo_msgs; test_examples.py runs it where they are",
    r"^(\.venv/bin/)?argus (demo|live|watch)\b": "runs on, or needs a camera; it has a test of its own",
    r"^(\.venv/bin/)?argus completion ": "writes into the reader's home; test_completion.py has it",
    r"^(\.venv/bin/)?argus ": LONG,
    r"^(\S+/ros-env )?(python3?|bash) bench/": LONG,
    r"^make ": "sets up a checkout: this test is run by what it made",
    r"^(export|cd|mkdir|source|git|python3? -m venv)\b": "prepares a shell or a folder of the reader's own",
    r"^(sudo )?(apt|apt-get|pip|rosdep|pre-commit|docker)\b": "installs on the reader's machine",
    r"^(ros2|colcon)\b|ros2 ": "needs a sourced ROS 2 with these programs; test_launch.py covers it there",
}


def commands(text: str) -> list[str]:
    """Commands in the blocks of a Markdown document: continued lines joined, comments left out."""
    found: list[str] = []
    for language, block in blocks(text):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            command = re.sub(r"(^|\s+)#(\s.*|$)", "", line).strip()
            words = [word for word in command.split() if not re.match(r"[A-Z_]+=", word)]
            known = bool(words) and PROGRAMS.match(words[0])
            if command and (language in ("bash", "sh") or known):
                found.append(command)
    return found


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, text) of what stands between fences or is indented by four."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (("", block) for block in re.findall(r"(?:^ {4}.*\n)+", rest, re.MULTILINE))


def rule(command: str) -> str:
    """How a command is run, or the reason why not; empty where no rule applies."""
    return next((how for pattern, how in RULES.items() if re.search(pattern, command)), "")


DOCUMENTED = {
    command: document.name for document in DOCUMENTS for command in commands(document.read_text("utf-8"))
}


def cases(how: str) -> list[Any]:
    return [
        pytest.param(command, id=f"{page}: {command}")
        for command, page in DOCUMENTED.items()
        if rule(command) == how
    ]


long = pytest.mark.skipif("DOCS_COMMANDS" not in os.environ, reason="takes long: `make docs-commands`")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout with a recording in it, as the documents have it."""
    folder = tmp_path_factory.mktemp("a folder with a space") / "argus_ros"
    left_out = ("/.", "/out", "/build", "/install", "/log")

    def ignored(parent: str, names: list[str]) -> list[str]:
        if Path(parent) != ROOT:
            return [name for name in names if name == "__pycache__"]
        return [name for name in names if f"/{name}".startswith(left_out)]

    shutil.copytree(ROOT, folder, ignore=ignored)
    (folder / ".venv").symlink_to(sys.prefix)
    walk = Walk(seed=3, seconds=0.6, rate=5.0, width=160, height=120)
    camera_bag.write(folder.parent / "drive", {"front": walk})
    (recording,) = (folder.parent / "drive").glob("*.mcap")
    recording.rename(folder / "drive.mcap")
    return folder


def start(command: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(command: str, folder: Path, seconds: float) -> None:
    process = start(command, folder)
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        end(process)
    assert process.returncode == 0, output


def end(process: subprocess.Popen[str]) -> None:
    """Kill it with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_every_command_has_a_rule() -> None:
    assert len(DOCUMENTED) > 30  # the documents are read
    assert not {command: page for command, page in DOCUMENTED.items() if not rule(command)}


def test_commands_are_found_in_blocks_alone() -> None:
    text = "make no\n\n    argus a \\\n        --b   # c\n    other\n\n```bash\nX=1 any d\n```\n"
    assert sorted(commands(text)) == ["X=1 any d", "argus a --b"]


@pytest.mark.parametrize("command", cases(QUICK))
def test_quick(command: str, checkout: Path) -> None:
    run(command, checkout, seconds=250)


@long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("command", cases(LONG))
def test_long(command: str, checkout: Path) -> None:
    run(command, checkout, seconds=4 * 3600)


@long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", cases(STARTS))
def test_trains_and_is_interrupted(command: str, checkout: Path) -> None:
    out = re.search(r"--out (\S+)", command)
    assert out
    log = checkout / out[1] / "log.jsonl"
    process = start(command, checkout)
    try:
        while not (log.exists() and log.stat().st_size):
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)  # at most the test's limit
            assert process.poll() is None, process.communicate()[0]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 130, output
    assert "Traceback" not in output
