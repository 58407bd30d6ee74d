"""The links of the documents lead somewhere; ``make docs`` also checks how easy they are to read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "check_docs.py"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_docs", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_lead_somewhere(check: ModuleType) -> None:
    assert len(check.pages()) > 10
    assert not [broken for page in check.pages() for broken in check.broken_links(page)]


def test_broken_links_are_found(check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ROOT", tmp_path)
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# How `it` works: really\n\n```\n# no heading\n```\n")
    page.write_text("[a](other.md#how-it-works-really) [b](https://example.org/none)\n")
    assert not list(check.broken_links(page))
    page.write_text("[a](missing.md) [b](other.md#no-heading) [c](#nowhere)\n")
    assert [broken.split(": ")[1] for broken in check.broken_links(page)] == [
        "missing.md",
        "other.md#no-heading",
        "#nowhere",
    ]


def test_prose_has_neither_code_nor_tables(check: ModuleType) -> None:
    text = "# Title\n\nRun `make` [here](x.md).\n\n```bash\nls\n```\n\n| a | b |\n"
    assert check.prose(text).strip() == "Run it here."
