"""`pip install .` into a fresh environment without ROS: what the documents promise there works."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from argus_ros.tools import camera_bag
from argus_ros.tools.main import COMMANDS
from argus_ros.training.scenes.film import Walk

ROOT = Path(__file__).parents[2]
#: What the sdist is made of, and the wheel of that.
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.py", "argus_ros", "config", "msg", "srv")
#: Loads the arguments of every command.
HELP = """
import sys
from argus_ros.tools.main import main
for command in sys.argv[1:]:
    try:
        main([command, "--help"])
    except SystemExit as ended:
        assert not ended.code
"""


class Fresh:
    """A virtual environment with nothing but the wheel and the libraries it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        venv.create(folder / "venv", symlinks=True)
        link_libraries(next((folder / "venv").glob("lib/*/site-packages")))

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """In a folder without a checkout, and without a trace of this process's workspace."""
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder)}
        words = [str(part) for part in command]
        return subprocess.run(
            words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=240
        )


def link_libraries(folder: Path) -> None:
    """Link to those of this interpreter except ROS's, so that nothing large is installed a second time."""
    installed = [path for path in map(Path, site.getsitepackages()) if path.is_dir()]
    records = [record for path in installed for record in path.glob("ros_*.dist-info/RECORD")]
    ros = {line.split("/")[0] for record in records for line in record.read_text().splitlines()}
    for path in (path for place in installed for path in place.iterdir()):
        link = folder / path.name
        if path.name not in ros and path.suffix != ".pth" and not link.is_symlink():
            link.symlink_to(path)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"  # a copy: the build leaves folders there, and takes up those it finds
    sources.mkdir()
    for path in (ROOT / name for name in SOURCES):
        if path.is_dir():
            shutil.copytree(path, sources / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, sources)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    sdist = [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('.')"]
    subprocess.run(sdist, cwd=sources, check=True, capture_output=True)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*build, *sources.glob("argus_ros-*.tar.gz")], check=True, capture_output=True)
    fresh = Fresh(folder)
    install = [*pip, "--python", fresh.bin / "python", "install", "--no-deps", "--no-index"]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # not the workspace's
    subprocess.run([*install, *folder.glob("argus_ros-*.whl")], check=True, capture_output=True, env=alone)
    return fresh


def test_every_command_loads(fresh: Fresh) -> None:
    done = fresh.run("python", "-c", HELP, *COMMANDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: argus") == len(COMMANDS)


def test_a_bag_is_replayed(fresh: Fresh) -> None:
    walk = Walk(seed=3, seconds=0.4, rate=5.0, width=160, height=120)
    camera_bag.write(fresh.folder / "drive", {"front": walk})
    done = fresh.run("argus", "replay", "drive", "--out", "build/replay")
    assert done.returncode == 0, done.stderr
    out = fresh.folder / "build" / "replay"
    assert len((out / "detections.jsonl").read_text().splitlines()) == 2
    assert all((out / name).exists() for name in ("bag", "front.mp4", "report.html", "timing.jsonl"))
    assert json.loads((out / "summary.json").read_text())["outcomes"] == {"published": 2}


def test_a_checkpoint_is_measured(fresh: Fresh) -> None:
    done = fresh.run("argus", "evaluate", "--scenes", "2", "--json", "figures.json")
    assert done.returncode == 0, done.stderr
    assert 0.0 <= json.loads((fresh.folder / "figures.json").read_text())["f1"] <= 1.0


def test_the_example_detects_objects_in_a_picture(fresh: Fresh) -> None:
    done = fresh.run("python", ROOT / "docs/examples/engine.py", ROOT / "docs/images/demo.png")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^(ball|car|chair|cone) 0\.\d\d \d+ \d+ \d+ \d+$", done.stdout, re.MULTILINE)


def test_the_demo_says_at_once_that_it_needs_ros(fresh: Fresh) -> None:
    done = fresh.run("argus", "demo")
    assert done.returncode == 2
    assert done.stderr.startswith("argus demo: real topics need ROS 2")
    assert "rendering" not in done.stdout
    assert not (fresh.folder / "build" / "demo").exists()
