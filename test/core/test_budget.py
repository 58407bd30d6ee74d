"""The budget ladder of a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from argus_ros.core.budget import ladder
from argus_ros.core.checkpoint import Checkpoint, Tiling, Vocabulary
from argus_ros.core.frame import Level

ONE_TILE = Checkpoint("nano", Path(), "idefics3", {}, Tiling(160, 0, 25), Vocabulary(("detect",), 128))


def test_few_objects_first_then_more_tiles() -> None:
    found = ladder(replace(ONE_TILE, tiling=Tiling(512, 2048, 64)), "edge")
    assert [(level.max_tiles, level.max_detections) for level in found] == [
        *((1, 2), (1, 4), (1, 0), (5, 0), (10, 0)),
        (0, 0),
    ]
    assert [level.visual_tokens for level in found] == [64, 64, 64, 320, 640, 0]
    assert len({level.name for level in found}) == len(found)


def test_one_tile_leaves_the_number_of_objects() -> None:
    assert [level.max_detections for level in ladder(ONE_TILE, "edge")] == [2, 4, 0]


def test_free_text_leaves_the_tiles() -> None:
    found = ladder(replace(ONE_TILE, vocabulary=None, tiling=Tiling(512, 1024, 64)), "edge")
    assert [level.max_tiles for level in found] == [1, 0]
    assert ladder(replace(ONE_TILE, vocabulary=None), "edge") == (Level(),)


def test_without_the_recipe_there_is_one_level() -> None:
    assert ladder(ONE_TILE, "realtime") == (Level(),)
    assert len(ladder(ONE_TILE, "realtime+token_budget")) == 3
    with pytest.raises(ValueError, match="unknown preset"):
        ladder(ONE_TILE, "fast")
