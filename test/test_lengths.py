"""Modules and functions stay short enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Most lines of a module and of a function.
MODULE, FUNCTION = 450, 60
#: What is longer, and the most lines that it may have: it is to be split, and not to grow.
LONGER = {
    "test/faults/table.py": 560,  # a table
    "test/fuzz/targets.py": 570,
    "test/layouts.py": 750,
    "test/layouts.py:florence2": 80,
    "test/layouts.py:idefics3": 75,
    "test/system/test_node.py": 700,
}


def lengths(source: str, name: str) -> Iterator[tuple[str, int, int]]:
    """Of a module and each of its functions: name, lines, and the most lines allowed."""
    yield name, len(source.splitlines()), MODULE
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            yield f"{name}:{node.name}", node.end_lineno - node.lineno + 1, FUNCTION


def too_long(files: list[tuple[str, str]]) -> dict[str, int]:
    found = [length for name, source in files for length in lengths(source, name)]
    return {name: lines for name, lines, most in found if lines > most}


def test_modules_and_functions_are_short() -> None:
    folders = (ROOT / "argus_ros", "argus_ros/"), (ROOT / "test", "")
    files = [
        (str(file.relative_to(ROOT)).removeprefix(prefix), file.read_text())
        for folder, prefix in folders
        for file in sorted(folder.rglob("*.py"))
    ]
    found = too_long(files)
    new = {name: lines for name, lines in found.items() if lines > LONGER.get(name, 0)}
    assert not new, f"at most {MODULE} lines a module, {FUNCTION} a function: split it"
    assert not LONGER.keys() - found.keys(), "short enough by now: take it out of LONGER"


def test_what_is_too_long_is_found() -> None:
    function = "def long():\n" + "    pass\n" * FUNCTION
    assert too_long([("a.py", function)]) == {"a.py:long": FUNCTION + 1}
    assert too_long([("a.py", "x = 1\n" * (MODULE + 1))]) == {"a.py": MODULE + 1}
