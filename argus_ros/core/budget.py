"""The budget ladder of recipe ``token_budget``: what a frame may cost, from cheap to dear."""

from __future__ import annotations

import math

from argus_ros.core import recipes
from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.frame import Level

#: The lowest levels stop after this many objects. Objects come largest first.
FEW = (2, 4)


def ladder(checkpoint: Checkpoint, preset: str) -> tuple[Level, ...]:
    """The budget levels of a checkpoint, cheapest first; only the full level where the recipe is off.

    The lowest levels use one tile and stop after a few objects. Higher levels allow all objects, then more
    tiles. Raises ValueError for an unknown preset.
    """
    if not recipes.preset(preset).token_budget:
        return (Level(),)
    tiling, vocabulary = checkpoint.tiling, checkpoint.vocabulary
    side = math.isqrt(tiling.max_tiles - 2) + 1 if tiling.max_tiles > 1 else 1
    few = [n for n in FEW if vocabulary and n < vocabulary.max_objects]
    tiles = [n * n + 1 if n > 1 else 1 for n in range(1, side)]
    return (
        *(Level(f"{n} objects", 1, tiling.tokens_per_tile, n) for n in few),
        *(Level(f"{n} tile{'s' * (n > 1)}", n, n * tiling.tokens_per_tile) for n in tiles),
        Level(),
    )
