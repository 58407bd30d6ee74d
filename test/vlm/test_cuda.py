"""On the device: tokens equal the reference's in float32 with TF32 off; in bfloat16 their agreement is told.

``ARGUS_TEST_DEVICE=cpu`` runs the same on a machine without a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.vlm.engine import Engine
from argus_ros.vlm.generation import Generated

DEVICE = os.environ.get("ARGUS_TEST_DEVICE", "cuda")
TIE = 1e-4
FRAMES = 10

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def both(path: Path, dtype: str, grid: tuple[int, int]) -> Iterator[tuple[Generated, Generated]]:
    """What the engine and the reference generate of the same frames."""
    native = Engine(EngineConfig(str(path), device=DEVICE, dtype=dtype))
    reference = Engine(EngineConfig(str(path), backend="transformers", device=DEVICE, dtype=dtype))
    rng = np.random.default_rng(3)
    side, words = native.info.tile, native.info.classes or ("picture",)
    for index in range(FRAMES):
        blocks = rng.integers(0, 255, (grid[0] * grid[1] + 1, 4, 4, 3), np.uint8)
        tiles = np.ascontiguousarray(blocks.repeat(side // 4, 1).repeat(side // 4, 2))
        for name in native.info.tasks:
            task = Task(name, words, "how many")
            request = FrameRequest(index, 0, *grid, 640, 480, task, max_new_tokens=24)
            yield native.generate(request, tiles), reference.generate(request, tiles)


def agreement(ours: Generated, theirs: Generated) -> tuple[int, float]:
    """Tokens that agree from the start, and by how much the reference preferred its own at the next one."""
    for step, (a, b) in enumerate(zip(ours.columns, theirs.columns, strict=False)):
        if a != b:
            return step, float(theirs.logits[step][b] - theirs.logits[step][a])
    return len(theirs.columns), 0.0


@pytest.mark.parametrize(("name", "grid"), [("tiny", (0, 0)), ("tiled", (2, 3)), ("unbounded", (0, 0))])
def test_float32_tokens_are_the_references(
    name: str, grid: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    for ours, theirs in both(request.getfixturevalue(name), "float32", grid):
        same, preferred = agreement(ours, theirs)
        assert preferred <= TIE, f"token {same} differs from the reference's, which was better by {preferred}"


def test_bfloat16_agreement(tiny: Path, record_property: Callable[[str, object], None]) -> None:
    same = total = 0
    for ours, theirs in both(tiny, "bfloat16", (0, 0)):
        same += agreement(ours, theirs)[0]
        total += len(theirs.columns)
    record_property("bfloat16 tokens that agree up to the first difference", f"{100 * same / total:.1f}%")
    assert same > 0
