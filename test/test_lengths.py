"""Modules and functions stay short enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "argus_ros"
#: Most lines of a module and of a function.
MODULE, FUNCTION = 450, 60
#: What is longer, and the most lines that it may have: it is to be split, and not to grow.
LONGER = {
    "vlm/fused.py:layer": 70,
    "vlm/kernels.py:qkv": 65,  # a kernel is one function
    "vlm/kernels.py:choose": 65,
}


def lengths(source: str, name: str) -> Iterator[tuple[str, int, int]]:
    """Of a module and each of its functions: name, lines, and the most lines allowed."""
    yield name, len(source.splitlines()), MODULE
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            yield f"{name}:{node.name}", node.end_lineno - node.lineno + 1, FUNCTION


def too_long(files: list[tuple[str, str]], known: dict[str, int]) -> dict[str, int]:
    found = [length for name, source in files for length in lengths(source, name)]
    return {name: lines for name, lines, most in found if lines > max(most, known.get(name, 0))}


def test_modules_and_functions_are_short() -> None:
    files = [(str(file.relative_to(PACKAGE)), file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))]
    assert not too_long(files, LONGER), f"at most {MODULE} lines a module, {FUNCTION} a function: split it"
    assert not LONGER.keys() - too_long(files, {}).keys(), "short enough by now: take it out of LONGER"


def test_what_is_too_long_is_found() -> None:
    function = "def long():\n" + "    pass\n" * FUNCTION
    assert too_long([("a.py", function)], {}) == {"a.py:long": FUNCTION + 1}
    assert too_long([("a.py", "x = 1\n" * (MODULE + 1))], {}) == {"a.py": MODULE + 1}
    assert not too_long([("a.py", function)], {"a.py:long": FUNCTION + 1})
