"""The messages that slow tests wait for exist in the sources, so that a renamed one fails in seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Where messages come from: the package, its launch files, and the examples of the documents.
SOURCES = ("argus_ros", "launch", "docs/examples")
#: How many characters of a message's fixed pieces a text has to hold, where values fill the rest. A piece
#: without a space is a name (of a parameter, say), which other strings contain as well: it does not count.
TELLING = 12
#: What tests wait for that is no message of ours: output of a test's own program, or of ROS.
FOREIGN = {"front", "cone", "http://", "publishing", "stopped"}


def messages(source: str) -> Iterator[list[str]]:
    """The fixed pieces of each string of a module but docstrings; an f-string has several pieces."""
    nodes = list(ast.walk(ast.parse(source)))
    skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)  # its parts come later in the walk
            yield [str(part.value) for part in node.values if isinstance(part, ast.Constant)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield [node.value]


def awaited(source: str) -> Iterator[str]:
    """The literal texts that a test gives to ``wait_for``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="wait_for"), args=[ast.Constant(value=str(text)), *_]):
                yield text


def is_said(text: str, said: list[list[str]]) -> bool:
    """Whether a message holds the text, or the text holds enough of a message's fixed pieces."""
    return any(
        any(text in piece for piece in pieces)
        or sum(len(piece.strip()) for piece in pieces if " " in piece and piece in text) >= TELLING
        for pieces in said
    )


@pytest.fixture(scope="module")
def said() -> list[list[str]]:
    files = [file for folder in SOURCES for file in sorted((ROOT / folder).rglob("*.py"))]
    return [pieces for file in files for pieces in messages(file.read_text())]


def test_every_awaited_message_is_in_the_sources(said: list[list[str]]) -> None:
    found = [
        (file.relative_to(ROOT), text)
        for file in sorted((ROOT / "test").rglob("*.py"))
        for text in awaited(file.read_text())
        if text not in FOREIGN
    ]
    assert len(found) > 10  # the tests still wait as this module reads it
    missing = [f"{file} waits for {text!r}" for file, text in found if not is_said(text, said)]
    assert not missing, f"no message of {', '.join(SOURCES)} says this:\n" + "\n".join(missing)


@pytest.mark.parametrize(
    ("message", "known"),
    [
        ('log("the data is neither JPEG nor PNG")', True),
        ('log("the data is no JPEG and no PNG")', False),
        ('log(f"{data} is neither JPEG nor PNG here")', True),
        ('"The docstring of: neither JPEG nor PNG."', False),
    ],
)
def test_a_renamed_message_is_missed(message: str, known: bool) -> None:
    assert is_said("neither JPEG nor PNG", list(messages(message))) is known


def test_a_text_with_a_value_is_known_by_a_fixed_piece() -> None:
    said = list(messages('log(f"camera {name}: waiting for images on {topic}")'))
    assert is_said("camera left: waiting for images on /left", said)
    assert not is_said("camera left: waits for images on /left", said)
