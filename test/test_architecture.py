"""docs/architecture.md names files that are there, and every recipe."""

import re
from pathlib import Path

from argus_ros.core.recipes import Recipes

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (.*) \|$", re.MULTILINE)


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:core|vlm|ros|tools|training)/\w+\.py)`", PAGE))
    assert len(named) > 20
    assert not [file for file in named if not (ROOT / "argus_ros" / file).is_file()]
    tests = set(re.findall(r"`(test/[\w/]+\.py)`", PAGE))
    assert not [file for file in tests if not (ROOT / file).is_file()]


def test_every_recipe_has_its_row() -> None:
    table = PAGE.split("<!-- recipes -->")[1].split("<!-- /recipes -->")[0]
    rows = {name: re.findall(r"`([^`]+)`", code) for name, code, _ in ROW.findall(table)}
    assert list(rows) == list(Recipes.__dataclass_fields__)
    for recipe, files in rows.items():
        sources = [(ROOT / "argus_ros" / file).read_text() for file in files]
        assert any(recipe in source for source in sources), f"{recipe} is not asked for in {files}"
