from dataclasses import fields

import pytest

from argus_ros.core import recipes
from argus_ros.core.recipes import PRESETS, Recipes


def test_stock_has_no_recipes_and_realtime_no_approximate_ones() -> None:
    assert PRESETS["stock"].names == ()
    kinds = {f.metadata["kind"] for f in fields(Recipes) if getattr(PRESETS["realtime"], f.name)}
    assert kinds == {"exact", "bounded"}


def test_edge_adds_the_approximate_ones() -> None:
    assert set(PRESETS["edge"].names) - set(PRESETS["realtime"].names) == {"token_budget", "still_gate"}


def test_every_recipe_has_a_line() -> None:
    for f in fields(Recipes):
        assert recipes.doc(f.name).endswith(("(exact)", "(bounded)", "(approximate)"))


def test_unknown_preset_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'fast'.*realtime"):
        recipes.preset("fast")


def test_without() -> None:
    assert PRESETS["paper"].without(["pinned_async"]).names == ("direct_resize", "prompt_cache")


def test_a_preset_can_be_changed() -> None:
    assert recipes.preset("stock+direct_resize+prompt_cache").names == ("direct_resize", "prompt_cache")
    assert recipes.preset("paper-pinned_async") == PRESETS["paper"].without(["pinned_async"])


@pytest.mark.parametrize("name", ["paper+", "paper+speed", "paper-", "+direct_resize", ""])
def test_an_invalid_change_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        recipes.preset(name)
