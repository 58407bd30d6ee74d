"""The parts of the native backend, each against the plain way of doing the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.recipes import PRESETS, Recipes
from argus_ros.core.types import Task
from argus_ros.vlm import grammar
from argus_ros.vlm.generation import Limits
from argus_ros.vlm.host import HostSteps
from argus_ros.vlm.native import NativeModel
from argus_ros.vlm.tokens import Tokens

CPU = torch.device("cpu")
ALL = PRESETS["realtime"]


def model(path: Path, recipes: Recipes = ALL) -> NativeModel:
    return NativeModel(checkpoints.read(path), recipes, CPU, torch.float32)


@pytest.mark.parametrize("off", ["uint8_transfer", "prefix_kv", "compiled_step", "jump_forward"])
def test_no_recipe_changes_the_tokens(tiled: Path, off: str) -> None:
    with_all, without = model(tiled), model(tiled, ALL.without([off]))
    checkpoint = checkpoints.read(tiled)
    tokens = Tokens(checkpoint, checkpoint.config["text_config"]["vocab_size"])
    passes = [0, 0]
    for seed in range(4):
        tiles = np.random.default_rng(seed).integers(0, 256, (3, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        for task in (
            Task("detect", ("traffic light",)),
            Task("dense_caption"),
            Task("ask", prompt="how many"),
        ):
            prompt, g = tokens.prompt(task, 1, 2, 4), grammar.build(task, tokens)
            limits = Limits(g.longest() or 20)
            a, b = (m.generate(prompt, g, tiles, limits) for m in (with_all, without))
            assert a.columns == b.columns
            choice = np.isfinite(b.logits).sum(1) > 1
            np.testing.assert_allclose(a.logits[choice], b.logits[choice], atol=1e-3)
            passes[0] += a.passes
            passes[1] += b.passes
    assert passes[0] < passes[1] if off == "jump_forward" else passes[0] >= passes[1]


@pytest.fixture
def grouped(tiled: Path) -> NativeModel:
    """Grouped-query attention."""
    return model(tiled)


@torch.inference_mode()
def test_steps_equal_one_pass_and_can_be_taken_back(grouped: NativeModel) -> None:
    decoder = grouped.decoder
    ids = torch.arange(40, 60)
    at_once = decoder(decoder.embed(ids))
    decoder.length = 7
    again = torch.cat([decoder(decoder.embed(part)) for part in ids[7:].split([1, 5, 2, 1, 4])])
    torch.testing.assert_close(again, at_once[7:], atol=1e-5, rtol=1e-5)
    assert decoder.length == 20


@torch.inference_mode()
def test_numpy_steps_are_the_torch_steps(grouped: NativeModel) -> None:
    decoder, ids = grouped.decoder, torch.arange(40, 60)
    expected = decoder(decoder.embed(ids))
    decoder.length = 10
    steps = HostSteps(decoder)
    found = np.stack([steps(token) for token in ids[10:].tolist()])
    np.testing.assert_allclose(found, expected[10:].numpy(), atol=1e-4)


@torch.inference_mode()
def test_buffers_grow(grouped: NativeModel) -> None:
    decoder = grouped.decoder
    before = decoder(decoder.embed(torch.arange(40, 60)))
    decoder.reserve(decoder.capacity + 1)
    assert decoder.capacity > 300
    assert decoder.length == 0
    torch.testing.assert_close(decoder(decoder.embed(torch.arange(40, 60))), before)


@torch.inference_mode()
def test_folded_normalisation(tiny: Path) -> None:
    """Grey, where normalised pixels are zero, and extremes; against normalising first."""
    tiles = np.stack([np.full((64, 64, 3), v, np.uint8) for v in (0, 127, 128, 255)])
    folded, plain = model(tiny), model(tiny, ALL.without(["uint8_transfer"]))
    a, b = (m.vision(m.upload(tiles)) for m in (folded, plain))
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
