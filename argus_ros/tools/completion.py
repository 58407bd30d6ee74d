"""`argus completion SHELL`: a script for the shell's completion of argus's commands, options and choices.

The script contains all of them, so that the Tab key starts no Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from argus_ros.core import checkpoint
from argus_ros.tools import main

#: Options for a checkpoint: a shipped name, or a folder.
CHECKPOINTS = ("checkpoint", "model")
#: Lists checkpoints.
FUNCTIONS = {
    "bash": """
_argus_checkpoints() {{
  compgen -W "{names}" -- "$1"
  compgen -d -- "$1"
}}
""",
    "zsh": """
_argus_checkpoints() {{
  _alternative "checkpoints:checkpoint:({names})" "folders:folder:_files -/"
}}
""",
}
MISSING = "shtab is needed: pip install shtab"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(FUNCTIONS), help="the shell")


def run(options: argparse.Namespace) -> int:
    print(script(options.shell))
    return 0


def script(shell: str) -> str:
    """The script for ``bash`` or ``zsh``. Raises ValueError where shtab is not installed."""
    try:
        import shtab
    except ImportError:
        raise ValueError(MISSING) from None
    program = main.parser(main.COMMANDS)
    for action in _actions(program):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest in CHECKPOINTS:
            action.complete = dict.fromkeys(FUNCTIONS, "_argus_checkpoints")  # type: ignore[attr-defined]
    functions = FUNCTIONS[shell].format(names=" ".join(checkpoint.shipped()))
    return shtab.complete(program, shell, preamble=functions)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All actions of a parser and of its commands' parsers."""
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):  # the commands' parsers, by name
            for command in action.choices.values():
                yield from _actions(command)
