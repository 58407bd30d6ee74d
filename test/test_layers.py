"""The three rules, on what importing every module of a layer really loads."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "argus_ros"
LAYERS = {
    "core": ("torch", "transformers", "rclpy"),
    "vlm training": ("rclpy",),
    "ros": ("torch", "transformers"),
}


def modules(layers: str) -> list[str]:
    files = [file for layer in layers.split() for file in sorted((PACKAGE / layer).rglob("*.py"))]
    paths = [file.relative_to(PACKAGE.parent).with_suffix("") for file in files]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize("layers", ["core", "ros", pytest.param("vlm training", marks=pytest.mark.slow)])
def test_layers_load_nothing_that_is_not_theirs(layers: str) -> None:
    if layers == "ros" and find_spec("rclpy") is None:
        pytest.skip("no rclpy here")
    code = (
        "import importlib, json, sys\n"
        "blame = {}\n"
        "for name in sys.argv[1].split():\n"
        "    importlib.import_module(name)\n"
        "    for loaded in sys.modules: blame.setdefault(loaded, name)\n"
        "print(json.dumps(blame))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(modules(layers))],
        capture_output=True, text=True, cwd=PACKAGE.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    blame = json.loads(done.stdout.splitlines()[-1])
    assert "argus_ros" in blame
    loaded = {name: f"by {blame[name]}" for name in LAYERS[layers] if name in blame}
    assert not loaded
