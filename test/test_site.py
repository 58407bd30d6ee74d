"""The site of documents has every document, and what is made from code is made."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from argus_ros.tools.main import COMMANDS

ROOT = Path(__file__).parent.parent
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
MADE = {"docs/commands.md", "docs/messages.md", "docs/python.md"}


def pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in pages(entry)]


def test_every_document_has_its_place_and_every_place_a_document() -> None:
    documents = {str(file.relative_to(ROOT)) for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    named = pages(SETTINGS["nav"])
    assert len(named) == len(set(named))
    assert set(named) == documents | MADE
    assert SETTINGS["strict"] is True


@pytest.mark.slow
def test_the_site_is_gathered_with_every_command_and_builds_without_a_warning(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run([sys.executable, ROOT / "scripts" / "gather_site.py", source], check=True)
    commands = (source / "docs" / "commands.md").read_text()
    assert all(f"## {name}\n" in commands for name in COMMANDS)
    assert commands.count("usage: argus") == len(COMMANDS)
    messages = (source / "docs" / "messages.md").read_text()
    assert all(f"## argus_ros/{kind}\n" in messages for kind in ("msg/DetectionArray", "srv/Ask"))
    described = re.findall(r"^::: (\S+)$", (source / "docs" / "python.md").read_text(), re.MULTILINE)
    assert len(described) > 20
    for name in described:
        module, _, item = name.rpartition(".")
        assert getattr(importlib.import_module(module), item).__doc__, name
    if find_spec("material") is None or find_spec("mkdocstrings") is None:
        pytest.skip("mkdocs-material and mkdocstrings are not installed: make site")
    settings = tmp_path / "mkdocs.yml"
    here = {"docs_dir": str(source), "site_dir": str(tmp_path / "site")}
    (mkdocstrings,) = (plugin["mkdocstrings"] for plugin in SETTINGS["plugins"] if isinstance(plugin, dict))
    mkdocstrings["handlers"]["python"]["paths"] = [str(ROOT)]
    settings.write_text(yaml.safe_dump(SETTINGS | here))
    words = [sys.executable, "-m", "mkdocs", "build", "--config-file", settings]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "docs" / "interface" / "index.html").stat().st_size > 10_000
    python = (tmp_path / "site" / "docs" / "python" / "index.html").read_text()
    assert all(f'id="{name}"' in python for name in described)
