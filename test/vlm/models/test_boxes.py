"""A head that guesses the rest of a box saves passes where it is right, and changes no token ever."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from argus_ros.core import recipes
from argus_ros.core.checkpoint import CheckpointError
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.vlm.decoding import choosing
from argus_ros.vlm.decoding.generation import Generated
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats.grammar import objects
from argus_ros.vlm.models import boxes
from argus_ros.vlm.models.boxes import BoxHead

REQUEST = FrameRequest(1, 0, 0, 0, 640, 480, Task("detect"), max_new_tokens=40)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, 4, 4, 3), np.uint8).repeat(16, 1).repeat(16, 2)


def engine(folder: Path, preset: str = "realtime") -> Engine:
    return Engine(EngineConfig(str(folder), device="cpu", dtype="float32", preset=preset))


@pytest.fixture(scope="module")
def headed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a head of random weights, which is as good as always wrong."""
    folder = tmp_path_factory.mktemp("boxes") / "headed"
    shutil.copytree(tiny, folder)
    plain = engine(tiny)
    bins, width = plain.checkpoint.vocabulary.bins, plain.text_shape.width  # type: ignore[union-attr]
    draw = torch.Generator().manual_seed(1)
    boxes.write(folder, torch.randn(4 * bins, width, generator=draw), torch.zeros(4 * bins))
    return folder


def same(ours: Generated, plain: Generated) -> None:
    assert ours.columns == plain.columns
    assert ours.truncated == plain.truncated


@pytest.mark.parametrize("preset", ["realtime", "realtime-compiled_step", "realtime+device_loop"])
def test_the_heads_predictions_change_no_token(headed: Path, tiny: Path, preset: str) -> None:
    ours, plain = engine(headed, preset), engine(tiny)
    assert "box_draft" in ours.info.recipes
    assert "box_draft" not in plain.info.recipes
    drafted = 0
    for seed in range(8):
        made, alone = (e.generate(REQUEST, picture(seed)) for e in (ours, plain))
        same(made, alone)
        drafted += made.drafted
    assert drafted > 0


def test_a_head_that_is_right_saves_passes(headed: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told the answer's own boxes: three places of each are in the pass that runs the first."""
    ours, plain, most = engine(headed), engine(tiny), 0
    for seed in range(12):
        alone = plain.generate(REQUEST, picture(seed))
        grammar = plain.prompt_and_grammar(REQUEST)[1]
        known = iter([list(found.box) for found in objects(grammar, alone.columns)])
        monkeypatch.setattr(BoxHead, "__call__", lambda self, _, known=known: next(known, [0] * 4))
        made = ours.generate(REQUEST, picture(seed))
        same(made, alone)
        count = len(objects(grammar, alone.columns))
        most = max(most, count)
        assert made.accepted >= 3 * count - 3
        if count > 1:
            assert made.passes <= alone.passes - 2 * count
    assert most > 1


def test_with_the_last_answer_of_a_camera(headed: Path, tiny: Path) -> None:
    """Both guess, and the one that has been right more often is heard."""
    ours, plain = engine(headed), engine(tiny)
    asked = replace(REQUEST, camera="front")
    seed = next(s for s in range(50) if plain.generate(REQUEST, picture(s)).passes > 9)
    alone = plain.generate(REQUEST, picture(seed))
    passes = []
    for _ in range(4):
        made = ours.generate(asked, picture(seed))
        same(made, alone)
        passes.append(made.passes)
    assert passes[-1] < alone.passes
    memory = ours.memories.of("front", (asked.task, asked.width, asked.height))
    assert all(memory.chances[10 + i] < memory.chances[i] for i in range(1, 4))


@pytest.mark.parametrize(("each", "used"), [(0.01, True), (0.6, False)])
def test_it_is_used_where_drafted_tokens_are_cheap(headed: Path, each: float, used: bool) -> None:
    model = engine(headed).model
    assert isinstance(model, NativeModel)
    assert model.predicts_boxes
    times = cycle([1.0, 1.0, *(1.0 + each * (count - 1) for count in choosing.TOKENS)])
    model.choose(("a",), lambda run: next(times))
    assert model.predicts_boxes is used


def test_a_head_of_another_model_is_named(headed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(headed, folder)
    save_file({"weight": torch.zeros(8, 4), "bias": torch.zeros(8)}, folder / boxes.FILE)
    with pytest.raises(
        CheckpointError,
        match=r"whole_boxes\.safetensors holds .*the model has \d+ bins and a width of \d+; remove it to run",
    ):
        engine(folder)
    (folder / boxes.FILE).write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match=r"cannot be read.*remove it"):
        engine(folder)
    assert "box_draft" not in engine(folder, "realtime-box_draft").info.recipes


def test_it_is_part_of_realtime() -> None:
    assert recipes.preset("realtime").box_draft
