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
from argus_ros.vlm.decoding.generation import Generated
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.models.graphs import Graphs

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


#: All that a GPU has, also where ``ARGUS_TEST_DEVICE`` is a CPU.
PRESET = "realtime+device_loop"


def recordings(engine: Engine) -> list[object]:
    """What replays the vision tower, passes of the decoder, and chunks of steps."""
    model = engine.model
    assert isinstance(model, NativeModel)
    graphs: list[Graphs] = [model.vision, model.decode, *(loop.run for loop in model.loops.values())]
    return [recording for one in graphs for recording in one.recordings.values()]


def test_recorded_steps_equal_eager_ones(tiled: Path) -> None:
    """The same frames first eagerly, then while recordings are made, then replayed; and without recipes."""
    recorded = Engine(EngineConfig(str(tiled), device=DEVICE, dtype="float32", preset=PRESET))
    eager = Engine(
        EngineConfig(
            str(tiled),
            device=DEVICE,
            dtype="float32",
            preset="realtime-device_loop-compiled_step-camera_batch",
        )
    )
    rng, side = np.random.default_rng(5), recorded.info.tile
    tasks = [Task(name, recorded.info.classes, "how many") for name in recorded.info.tasks]
    frames = [
        np.ascontiguousarray(
            rng.integers(0, 255, (7, 4, 4, 3), np.uint8).repeat(side // 4, 1).repeat(side // 4, 2)
        )
        for _ in range(3)
    ]
    asked = [FrameRequest(i, 0, 2, 3, 640, 480, tasks[i % 2], max_new_tokens=24) for i in range(3)]
    for task in tasks:
        request = FrameRequest(0, 0, 2, 3, 640, 480, task, max_new_tokens=24)
        for _ in range(3):
            for frame in frames:
                ours, plain = recorded.generate(request, frame), eager.generate(request, frame)
                same, preferred = agreement(ours, plain)
                assert preferred <= TIE, f"{task.name}: token {same} differs"
    for _ in range(3):  # together, answers of different lengths under two grammars
        for index, ours in recorded.generate_all(asked, frames):
            same, preferred = agreement(ours, eager.generate(asked[index], frames[index]))
            assert preferred <= TIE, f"{asked[index].task.name} in a batch: token {same} differs"
    made = recordings(recorded)
    assert len(made) >= 3
    if DEVICE.startswith("cuda"):
        assert all(recording.graph is not None for recording in made), "a shape could not be recorded"


def test_memory_that_moves_takes_its_recordings_along(tiled: Path) -> None:
    """Buffers that grow, and memory that is given back, between frames of one shape."""
    engine = Engine(EngineConfig(str(tiled), device=DEVICE, dtype="float32", preset=PRESET))
    frame = np.full((1, engine.info.tile, engine.info.tile, 3), 90, np.uint8)
    request = FrameRequest(0, 0, 0, 0, 640, 480, Task("dense_caption"), max_new_tokens=24)
    first, *others = [engine.generate(request, frame) for _ in range(3)]
    others += [made for _, made in engine.generate_all([request] * 3, [frame] * 3)]  # more rows
    others += [engine.generate(request, frame) for _ in range(3)]
    engine.model.free()
    others += [engine.generate(request, frame) for _ in range(3)]
    for other in others:
        assert agreement(other, first)[1] <= TIE


def test_bfloat16_agreement(tiny: Path, record_property: Callable[[str, object], None]) -> None:
    same = total = 0
    for ours, theirs in both(tiny, "bfloat16", (0, 0)):
        same += agreement(ours, theirs)[0]
        total += len(theirs.columns)
    record_property("bfloat16 tokens that agree up to the first difference", f"{100 * same / total:.1f}%")
    assert same > 0
