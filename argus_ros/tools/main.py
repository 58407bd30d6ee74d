"""`argus COMMAND`: one program for everything that is not the node itself."""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
from collections.abc import Collection, Sequence

import argus_ros.core.process  # as in the engine's worker, before what loads numpy

#: Commands with their descriptions; each is a module of this package with ``add_arguments`` and ``run``.
COMMANDS = {
    "average": "average the weights of checkpoints that were trained from the same base",
    "bench": "measure the gain of the latency recipes, side by side on the same weights and frames",
    "completion": "print a script that completes argus in bash or zsh",
    "convert": "make an Argus checkpoint from an open model, for training",
    "demo": "render a camera bag, play it on real topics and watch the detections arrive",
    "doctor": "check whether this machine has what the node needs, and how to install what is missing",
    "evaluate": "measure the accuracy of a checkpoint, on held-out scenes or on pictures with boxes",
    "label": "label pictures with a detector in ONNX format, for training",
    "lit": "render a bank of objects with realistic lighting, for training or evaluation",
    "live": "run the model on a USB camera, a video file or a stream, without ROS",
    "models": "list the checkpoints on this machine with their tasks, or compare one with transformers",
    "profile": "show where the time of one frame goes, and which recipe would save most",
    "replay": "run the model on a recorded bag, and compare the answers with an earlier run",
    "simulate": "simulate the frame scheduler with many cameras on one engine",
    "train": "train a checkpoint on synthetic scenes, on COCO data or on both",
    "watch": "serve a live page of a running node, for any browser",
}


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _main(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:  # also while libraries are imported
        return 130


def parser(commands: Collection[str]) -> argparse.ArgumentParser:
    """Of the program, with the options of these commands; of the others it knows the names."""
    program = argparse.ArgumentParser("argus", description=__doc__, formatter_class=_Formatter)
    program.add_argument("--version", action="version", version=f"argus_ros {argus_ros.__version__}")
    parsers = program.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, purpose in COMMANDS.items():
        command = parsers.add_parser(name, help=purpose, description=purpose, formatter_class=_Formatter)
        if name in commands:
            importlib.import_module(f"argus_ros.tools.{name}").add_arguments(command)
    return program


def _main(arguments: list[str]) -> int:
    options = parser(arguments[:1]).parse_args(arguments)  # only the chosen command's libraries are loaded
    try:
        return importlib.import_module(f"argus_ros.tools.{options.command}").run(options)
    except ValueError as error:  # errors that a user can correct: a checkpoint, a class, a bag
        print(f"argus {options.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # of the system: for example a full disk, or no permission
        if error.errno is None:
            raise
        where = f": {error.filename}" if error.filename else ""
        remedy = "; make room, or name another folder" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        print(f"argus {options.command}: {error.strerror}{where}{remedy}", file=sys.stderr)
        return 2


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return (
            (action.help or "") if action.default in (None, False) else super()._get_help_string(action) or ""
        )


if __name__ == "__main__":
    raise SystemExit(main())
