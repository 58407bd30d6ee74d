"""Warnings about parameters given at start that have no effect."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from yaml import YAMLError
from yaml import safe_load as yaml_of

from argus_ros.ros.parameters import CAMERA, Spec

#: Parameters that rclpy declares itself.
OWN_OF_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def ineffective_parameters(given: Iterable[str], specs: Mapping[str, Spec]) -> Iterator[str]:
    """A warning for each parameter without effect, with the nearest existing name."""
    for name in given:
        if name in specs or name.startswith(OWN_OF_RCLPY):
            continue
        camera = re.fullmatch(r"camera\.(\w+)\.(\w+)", name)
        if camera and camera[2] in {spec.name for spec in CAMERA}:
            yield f"{name} has no effect until parameter cameras names {camera[1]!r}"
            continue
        near = difflib.get_close_matches(name, specs, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        yield f"there is no parameter {name!r}, so its value is ignored{meant}"


def ineffective_files(words: Sequence[str], node: str) -> Iterator[str]:
    """A warning for each ``--params-file`` of a command line without parameters for ``node`` (a full name).

    rcl ignores such a file silently. Files that cannot be read are reported by rcl.
    """
    for file in (after for word, after in pairwise(words) if word == "--params-file"):
        try:
            nodes = list(_nodes_of(yaml_of(Path(file).read_text())))
        except (OSError, ValueError, YAMLError):
            continue
        if nodes and not any(_pattern(name).fullmatch(node) for name in nodes):
            yield (
                f"{file} has parameters for {', '.join(nodes)} and none for {node}, so it has no effect; "
                f"put {node} or /** above the parameters of this node"
            )


def _nodes_of(tree: Any, name: str = "") -> Iterator[str]:
    """Names above ``ros__parameters``, which may be nested by namespaces."""
    for key, below in tree.items() if isinstance(tree, dict) else ():
        if key == "ros__parameters":
            yield name
        else:
            yield from _nodes_of(below, f"{name}/{str(key).strip('/')}")


def _pattern(name: str) -> re.Pattern[str]:
    """The pattern of full names for a name in a parameter file: ``*`` is one part, ``**`` any number."""
    parts = {"**": "(/[^/]+)*", "*": "/[^/]+"}
    return re.compile("".join(parts.get(part, f"/{re.escape(part)}") for part in name.strip("/").split("/")))
