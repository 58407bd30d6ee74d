"""The three rules, on what importing every module of a layer really loads."""

from __future__ import annotations

import ast
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
    "training/scenes": ("torch", "transformers", "rclpy"),
    "ros": ("torch", "transformers"),
}


def modules(layers: str) -> list[str]:
    files = [file for layer in layers.split() for file in sorted((PACKAGE / layer).rglob("*.py"))]
    paths = [file.relative_to(PACKAGE.parent).with_suffix("") for file in files]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize(
    "layers", ["core", "ros", "training/scenes", pytest.param("vlm training", marks=pytest.mark.slow)]
)
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


def test_the_model_needs_nothing_of_its_training() -> None:
    arrows = [
        f"{file.relative_to(PACKAGE.parent)}:{number}"
        for layer in ("core", "vlm", "ros")
        for file in sorted((PACKAGE / layer).rglob("*.py"))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if "import" in line and "argus_ros.training" in line
    ]
    assert not arrows


#: Names with an underscore that belong to Python, rclpy or transformers, and have no other name.
FOREIGN = {"_exit", "_ArgumentGroup", "_can_compile_fullgraph", "_parameter_overrides"}
#: Calls that take the name of an attribute as a string.
BY_NAME = {"getattr", "setattr", "delattr", "hasattr", "put", "around"}


def foreign_private_names(source: str) -> list[tuple[int, str]]:
    """Where a module uses a name with one leading underscore that it does not define, with the line."""
    tree = ast.parse(source)
    defined, used = set(FOREIGN), []
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                defined.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                defined.add(name)
            case ast.Attribute(attr=name):
                used.append((node.lineno, name))
            case ast.ImportFrom(names=names):
                used += [(node.lineno, alias.name) for alias in names]
            case ast.Call(func=ast.Name(id=call) | ast.Attribute(attr=call), args=[_, argument, *_]):
                if call in BY_NAME and isinstance(argument, ast.Constant):
                    used.append((node.lineno, str(argument.value)))
    private = [(line, name) for line, name in used if name.startswith("_") and not name.startswith("__")]
    return [(line, name) for line, name in private if name not in defined]


def test_no_module_uses_the_private_names_of_another() -> None:
    folders = ("argus_ros", "bench", "docs", "launch", "scripts", "test")
    files = [file for folder in folders for file in sorted((PACKAGE.parent / folder).rglob("*.py"))]
    found = [
        f"{file.relative_to(PACKAGE.parent)}:{line}: {name}"
        for file in files
        for line, name in foreign_private_names(file.read_text())
    ]
    assert files
    assert not found, "give what is needed a public name"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("engine._model", ["_model"]),
        ("self._of_a_base_class", ["_of_a_base_class"]),
        ("from argus_ros.vlm.engine.native import _in_force", ["_in_force"]),
        ("monkeypatch.setattr(video, '_encoder', None)", ["_encoder"]),
        ("self._mine = 1\nother._mine", []),
        ("engine.__class__", []),
    ],
)
def test_private_names_of_another_module_are_found(source: str, names: list[str]) -> None:
    assert [name for _, name in foreign_private_names(source)] == names
